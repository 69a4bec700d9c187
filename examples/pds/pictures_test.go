package main_test

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

const (
	pictured       = "correct horse battery" // everybody's password
	largestPicture = 60_000
)

// TestPictures makes the pictures of the guide anew, in the folder that PDSKIT_PICTURES names.
func TestPictures(t *testing.T) {
	folder := os.Getenv("PDSKIT_PICTURES")
	if folder == "" {
		t.Skip("PDSKIT_PICTURES names no folder")
	}
	if !filepath.IsAbs(folder) {
		folder = filepath.Join("..", "..", folder) // of the root, where the command of the guide is given
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir()) // the administrator's page shows the path of the data
	address, tab := newPictured(t, map[string]string{"PDS_DATA_DIRECTORY": "pds"})
	picture := func(name string) {
		t.Helper()
		t.Setenv("PDSKIT_SCREENSHOTS", t.TempDir())
		tab.Screenshot(name)
		saved, err := os.ReadFile(filepath.Join(os.Getenv("PDSKIT_SCREENSHOTS"), name+"-light-760.png"))
		if err == nil {
			saved, err = small(saved)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name+".png"), saved, 0o644)
		}
		if err != nil || len(saved) > largestPicture {
			t.Errorf("%s: %d bytes, %v", name, len(saved), err)
		}
	}
	app := pdstest.LoopbackApp(&http.Client{Transport: behind(address)}, "atproto transition:generic", "http://127.0.0.1/callback")
	login, err := app.PushTo(t.Context(), "https://pds.example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	tab.Goto(login.URL)
	tab.Fill("Handle or e-mail address", "alice.pds.example.com")
	tab.Fill("Password", pictured)
	picture("sign-in")
	tab.Submit("Sign in")
	tab.WaitFor("It asks for access")
	picture("authorize")
	tab.Goto("https://pds.example.com/account")
	tab.Fill("Handle or e-mail address", "alice.pds.example.com")
	tab.Fill("Password", pictured)
	tab.Submit("Sign in")
	tab.WaitFor("Devices")
	picture("account")
	tab.Submit("Handle")
	tab.WaitFor("A domain of your own")
	picture("handle")
	tab.Goto("https://pds.example.com/admin")
	tab.Fill("Password", pictured)
	tab.Submit("Sign in")
	picture("admin")
	tab.Goto("https://pds.example.com/admin/checks")
	tab.Submit("Check now")
	picture("checks")
}

// TestOperatorPages looks at pages that only this server has something to say on: what it finds
// when it checks itself, relays, and an account that is taken down. PDSKIT_SCREENSHOTS names a
// folder for pictures.
func TestOperatorPages(t *testing.T) {
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"hostname":"pds.example.com","status":"active","seq":1,"accountCount":3}`)
	}))
	t.Cleanup(relay.Close)
	_, tab := newPictured(t, map[string]string{"PDS_CRAWLERS": relay.URL + ",http://localhost:1"})
	tab.Goto("https://pds.example.com/admin")
	tab.Fill("Password", pictured)
	tab.Submit("Sign in")
	tab.Goto("https://pds.example.com/admin/checks")
	tab.Submit("Check now")
	tab.Audit("operator-checks")
	tab.Goto("https://pds.example.com/admin/relays")
	tab.Audit("operator-relays")
	tab.Goto("https://pds.example.com/admin/accounts")
	tab.Submit("carol.pds.example.com")
	tab.Submit("Take down")
	tab.Audit("operator-take-down")
	tab.Submit(".actions button.main")
	tab.Audit("operator-taken-down")
}

// newPictured runs a server with accounts of alice, bob and carol, and opens a tab of a browser for
// which it is https://pds.example.com. address is where it listens.
func newPictured(t *testing.T, more map[string]string) (address string, tab *browser.Tab) {
	t.Helper()
	directory := testplc.Start(t, plctest.Config{})
	address = freeAddress(t)
	settings := map[string]string{
		"PDS_HOSTNAME": "pds.example.com", "PDS_DID_PLC_URL": directory.URL, "PDS_INVITE_REQUIRED": "false",
		"PDS_BIND_ADDRESS": "127.0.0.1", "PDS_PORT": strings.TrimPrefix(address, "127.0.0.1:"), "PDS_ADMIN_PASSWORD": pictured, "PDS_EMAIL_SINK_FILE": filepath.Join(t.TempDir(), "mail"), "PDS_DATA_DIRECTORY": t.TempDir(),
	}
	maps.Copy(settings, more)
	s := inProcess(t, settings)
	if s.URL() != "https://pds.example.com" {
		t.Fatal(s.URL())
	}
	p := &process{t: t, url: "http://" + address}
	for _, name := range []string{"alice", "bob", "carol"} {
		in := map[string]string{"handle": name + ".pds.example.com", "email": name + "@example.com", "password": pictured}
		if err := p.anonymous().Procedure(t.Context(), "com.atproto.server.createAccount", in, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Shutdown(t.Context()); err != nil { // it counts accounts when it starts
		t.Fatal(err)
	}
	inProcess(t, settings)
	return address, chromium.Tab(t, browser.Options{Width: 760, Height: 700, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}})
}

// freeAddress is an address of this machine where nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// behind is a proxy that speaks TLS in front of the server at an address, without the TLS.
type behind string

func (b behind) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host = r.URL.Host
	r.URL.Scheme, r.URL.Host = "http", string(b)
	return http.DefaultTransport.RoundTrip(r)
}

// small cuts a picture off below, and makes it one of 256 colours.
func small(data []byte) ([]byte, error) {
	const tallest = 900
	from, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	bounds := from.Bounds()
	bounds.Max.Y = min(bounds.Max.Y, bounds.Min.Y+tallest)
	count := make(map[color.Color]int)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[from.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	to := image.NewPaletted(bounds, colours[:min(256, len(colours))])
	draw.Draw(to, bounds, from, bounds.Min, draw.Src)
	var b bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, to)
	return b.Bytes(), err
}
