package limit

import (
	"net/http"
	"strings"
	"time"
)

// Methods has the classes of the methods of com.atproto, and of everything else that a PDS serves,
// by their cost. Make them with NewMethods, and change their bounds before use.
type Methods struct {
	// Read is for queries whose answers are small and quick.
	Read Class
	// List is for queries that return many records.
	List Class
	// Write is for procedures with JSON bodies, which are held in memory.
	Write Class
	// Export is for whole repositories. Its bytes are those of the temporary files in which
	// responses wait for slow clients: see Hold.
	Export Class
	// Tree is for queries that may need an account's whole tree, and return many blocks.
	Tree Class
	// Download is for blobs.
	Download Class
	// Upload is for blobs, which are streamed to disk.
	Upload Class
	// Import is for imports of repositories, which are streamed to disk. It bounds running uploads.
	// repo.Host bounds how many imports are processed, and their temporary files.
	Import Class
	// Other is for methods outside of com.atproto. Most of them are forwarded to other services.
	Other Class
	// Jobs is for workers that wait for jobs from package jobs: below org.pdskit.queue.
	Jobs Class
	// Stream is for subscriptions. It has no bounds: stream.Outbox has its own.
	Stream Class
	// OAuth is for the endpoints and pages of the authorization server: below /oauth/.
	OAuth Class
	// Page is for everything else outside /xrpc/.
	Page Class

	byName map[string]*Class
}

// NewMethods returns classes with bounds for a machine with 1 GB of memory.
func NewMethods() *Methods {
	m := &Methods{}
	set := func(c *Class, name string, total, perNetwork int, bytes, bytesPerNetwork int64) {
		c.Gate = Gate{
			Name: name, Total: total, PerNetwork: perNetwork, Reserved: total / 4,
			Queue: 2048, QueuePerNetwork: 1024, Wait: 10 * time.Second,
		}
		c.Bytes = Budget{Name: name, Total: bytes, PerNetwork: bytesPerNetwork}
	}
	set(&m.Read, "read", 256, 64, 32<<20, 8<<20)
	set(&m.List, "list", 48, 12, 32<<20, 8<<20)
	set(&m.Write, "write", 256, 64, 32<<20, 8<<20)
	set(&m.Export, "export", 48, 12, 2<<30, 512<<20)
	set(&m.Tree, "tree", 16, 4, 32<<20, 8<<20)
	set(&m.Download, "download", 128, 32, 0, 0)
	set(&m.Upload, "upload", 256, 64, 0, 0)
	set(&m.Import, "import", 64, 8, 0, 0)
	set(&m.Other, "other", 256, 64, 32<<20, 8<<20)
	set(&m.Jobs, "jobs", 256, 128, 32<<20, 16<<20)
	set(&m.OAuth, "oauth", 128, 32, 16<<20, 4<<20)
	set(&m.Page, "page", 128, 32, 4<<20, 1<<20)
	m.Export.Pace, m.Download.Pace = 8<<10, 8<<10
	m.Stream.Stall = -1
	m.byName = map[string]*Class{
		"com.atproto.sync.getRepo":     &m.Export,
		"com.atproto.sync.getCheckout": &m.Export,
		"com.atproto.sync.getRecord":   &m.Tree,
		"com.atproto.sync.getBlocks":   &m.Tree,
		"com.atproto.sync.getBlob":     &m.Download,

		"com.atproto.server.checkAccountStatus": &m.Tree, // counts nodes and blobs

		"com.atproto.repo.listRecords": &m.List,
		"com.atproto.repo.uploadBlob":  &m.Upload,
		"com.atproto.repo.importRepo":  &m.Import,

		"com.atproto.sync.subscribeRepos":   &m.Stream,
		"com.atproto.label.subscribeLabels": &m.Stream,
	}
	return m
}

// Set sets the class of a method.
func (m *Methods) Set(nsid string, c *Class) { m.byName[nsid] = c }

// Class returns the class of a request, for Limiter.Class. Health checks (/xrpc/_health) and
// preflight requests have none.
func (m *Methods) Class(r *http.Request) *Class {
	nsid, found := strings.CutPrefix(r.URL.Path, "/xrpc/")
	switch {
	case strings.HasPrefix(r.URL.Path, "/oauth/"):
		return &m.OAuth
	case strings.HasPrefix(r.URL.Path, "/account/") && strings.HasSuffix(r.URL.Path, ".car"):
		return &m.Export
	case !found:
		return &m.Page
	}
	nsid = strings.TrimSuffix(nsid, "/") // as xrpc.Server does
	switch c, known := m.byName[nsid]; {
	case nsid == "_health", r.Method == http.MethodOptions:
		return nil
	case known:
		return c
	case strings.HasPrefix(nsid, "org.pdskit.queue."):
		return &m.Jobs
	case !strings.HasPrefix(nsid, "com.atproto."):
		return &m.Other
	case r.Method == http.MethodPost:
		return &m.Write
	}
	return &m.Read
}

// All returns the classes, for metrics.
func (m *Methods) All() []*Class {
	return []*Class{&m.Read, &m.List, &m.Write, &m.Export, &m.Tree, &m.Download, &m.Upload, &m.Import, &m.Other, &m.Jobs, &m.Stream, &m.OAuth, &m.Page}
}
