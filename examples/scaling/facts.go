package main

// fact is one input of the model. Flags override each.
type fact struct {
	name  string
	value float64
	unit  string
	from  string // document of this repository; empty: an assumption
	says  string // what stands there
	why   string // how the value follows, or what is assumed
}

const (
	load    = "examples/pds/load/main.go"
	stores  = "storage/README.md"
	pg      = "storage/postgres/README.md"
	streams = "xrpc/stream/bench_test.go"
)

// facts are the inputs. Where a document has a range, the dearer end is taken.
var facts = []fact{
	// What a call costs a node.
	{"write", 494, "µs", load, "494 to 410 µs of the server's processors each", "createRecord, all of it"},
	{"read", 95, "µs", load, "95 to 79 µs of the server's processors each", "getRecord"},
	{"list", 375, "µs", load, "375 to 269 µs of the server's processors each", "listRecords of 50"},
	{"login", 25, "ms", "repo/account/credential/doc.go", "A hash takes some 25 ms", "argon2id"},
	{"proxied", 400, "µs", "", "", "a call passed on: getSession (128 µs), a signature (94 µs), two reads; never measured"},
	{"cold", 1.08, "µs", stores, "| first write to a cold repository | 84-108 ms |", "a record of a repository that is not cached, of 100,000"},
	{"frame", 38.4, "µs", streams, "52,065 frames/s", "an event for a subscriber: 2 processors, readers included, a system call each"},
	// sqlite.
	{"flush", 0.5, "ms", load, "some 0.5 ms for a flush", "mean; exponential in the model"},
	{"serial", 120, "µs", stores, "| 26k commits/s | 9.8k commits/s | 7.8k commits/s |", "a step's time in the one writer: 64/7.8k s less a flush, for 64 steps"},
	{"group", 64, "steps", "", "", "most steps that share a flush: no more were measured"},
	// postgres.
	{"pg-flush", 2, "ms", pg, "1.6 to 2.5 ms for a transaction", "mean; exponential in the model"},
	{"pg-exchange", 0.1, "ms", pg, "0.1 ms for an exchange", "two for each group"},
	{"pg-serial", 453, "µs", pg, "| 2,050 commits/s |", "a step's time in a node's group: 64/2,050 s less exchanges and flush, for 64 steps"},
	{"pg-write", 380, "µs", pg, "| 5,260 commits/s |", "processors of the database for a step: both of that machine, the node's share included"},
	{"pg-read", 64, "µs", pg, "| 264 µs | 8.3 µs |", "processors of the database for a read: all but the exchanges"},
	{"pg-event", 36, "µs", pg, "| 28k events/s |", "each node reads each event of its database"},
	{"pg-cold", 1.65, "×", pg, "| 246 ms | 149 ms |", "keys of a cold repository, beside sqlite"},
	{"merge", 18_000, "events/s", pg, "| 52k records/s |", "merged numbering: 28k/s read and 52k rows/s written, in turn; there is no such program"},
	// Memory and bytes.
	{"rest", 28, "MiB", load, "28 MiB after the start", "memory of a node without accounts"},
	{"account", 38, "KiB", load, "66 MiB after each was used", "(66-28 MiB)/1,000, until the caches are full"},
	{"exports", 96, "MiB", load, "at most 163 MiB (one: 67 MiB", "20 downloads at once"},
	{"stalled", 0.22, "MB", streams, "0.22 MB for each subscriber that stalls", "memory of a subscriber"},
	{"cache", 128, "MiB", "examples/pds/operations.md", "| `PDS_TREE_CACHE_SIZE` | 128 MiB |", "trees kept in memory"},
	{"tree", 110, "bytes", "examples/pds/operations.md", "some 110 bytes a record", "of the tree cache"},
	{"keep", 3, "days", "examples/pds/operations.md", "| `PDS_REPO_BACKFILL_LIMIT_MS` | 3 days |", "events are kept so long"},
	{"event-bytes", 2800, "bytes", "examples/scaling/bytes_test.go", "", "a post in a repository of 1,000: 2,600 to 3,800, by the shape of the tree"},
	{"record-bytes", 400, "bytes", "examples/scaling/bytes_test.go", "", "the database grows by it for a post, events apart"},
	// Who the accounts are.
	{"commits", 5, "a day", "", "", "commits of an account, those that rest included"},
	{"peak", 3, "×", "", "", "the busiest hour beside the mean"},
	{"reads", 4, "", "", "", "getRecord for a commit"},
	{"lists", 2, "", "", "", "listRecords for a commit"},
	{"calls", 30, "", "", "", "calls passed on to an AppView for a commit"},
	{"answer", 20, "KB", "", "", "answer to such a call"},
	{"logins", 0.02, "a day", "", "", "logins with a password, of an account"},
	{"refreshes", 4, "a day", "", "", "sessions renewed, of an account; each costs what a commit does, without an event"},
	{"records", 1000, "", "", "", "records of an account"},
	{"blobs", 2, "a month", "", "", "uploads of an account"},
	{"blob-size", 300, "KB", "", "", "size of one"},
	{"subscribers", 5, "", "", "", "of the event stream: relays and the like"},
	// Machines.
	{"network", 5000, "Mbit/s", "", "", "of a node, outwards"},
	{"limit", 70, "%", "", "", "how full the fullest resource may be"},
}

// values are facts by name.
type values map[string]float64

func defaults() values {
	v := values{}
	for _, f := range facts {
		v[f.name] = f.value
	}
	return v
}
