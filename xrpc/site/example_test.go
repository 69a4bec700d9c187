package site_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/site"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
)

// files would be an embed.FS.
var files = fstest.MapFS{
	"templates/hello.html": {Data: []byte(`{{define "body"}}{{with .Name}}<p>{{$.T "hello.to" "name" .}}</p>{{end}}
<form method="post" action="/hello">{{template "hidden" (.Hidden "/hello")}}
<label for="name">{{.T "hello.name"}}</label><input type="text" id="name" name="name">
{{template "wrong" (.Wrong "name")}}<button class="main">{{.T "hello.do"}}</button></form>{{end}}`)},
	"messages/en.txt": {Data: []byte("hello.title = Hello\nhello.to = Hello, {name}!\nhello.name = Name\nhello.do = Greet me\nhello.none = Enter your name.\n")},
	"messages/de.txt": {Data: []byte("hello.title = Hallo\nhello.to = Hallo {name}!\nhello.name = Name\nhello.do = Grüß mich\nhello.none = Geben Sie Ihren Namen ein.\n")},
	"messages/fr.txt": {Data: []byte("hello.title = Bonjour\nhello.to = Bonjour {name} !\nhello.name = Nom\nhello.do = Saluez-moi\nhello.none = Entrez votre nom.\n")},
	"messages/es.txt": {Data: []byte("hello.title = Hola\nhello.to = ¡Hola, {name}!\nhello.name = Nombre\nhello.do = Salúdame\nhello.none = Escribe tu nombre.\n")},
	"messages/ja.txt": {Data: []byte("hello.title = こんにちは\nhello.to = こんにちは、{name}さん\nhello.name = 名前\nhello.do = 挨拶する\nhello.none = 名前を入力してください。\n")},
	"messages/pt.txt": {Data: []byte("hello.title = Olá\nhello.to = Olá, {name}!\nhello.name = Nome\nhello.do = Cumprimente-me\nhello.none = Digite seu nome.\n")},
}

var set = site.NewSet(files)

// hello is what templates/hello.html shows.
type hello struct {
	site.Page
	Name string
}

func showHello(c *site.Call) error { return c.Show("hello", &hello{Page: c.Page("hello.title")}) }

func greet(c *site.Call) error {
	v := &hello{Page: c.Page("hello.title"), Name: c.Form.Get("name")}
	if v.Name == "" {
		v.Add("name", "hello.none")
	}
	return c.Show("hello", v)
}

// A page of a host's own.
func Example() {
	box, err := sealed.New(make([]byte, 32)) // a host has a random key
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	s := site.New(site.Config{
		Credentials: credential.New(credential.Config{Accounts: accounts}), Origin: "https://pds.example.com", Secret: make([]byte, 32),
	})
	mux := http.NewServeMux()
	s.Mount(mux)
	mux.Handle("/hello", s.Serve(set, site.Handler{Get: showHello, Post: greet}))

	// A browser opens the page, and sends the form.
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "https://pds.example.com/hello", nil))
	in := url.Values{"token": {tokens.FindStringSubmatch(w.Body.String())[1]}, "name": {"<Alice>"}}
	r := httptest.NewRequest("POST", "https://pds.example.com/hello", strings.NewReader(in.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://pds.example.com")
	r.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code, regexp.MustCompile(`<p>.*</p>`).FindString(w.Body.String()))
	// Output: 200 <p>Hello, &lt;Alice&gt;!</p>
}

var tokens = regexp.MustCompile(`name="token" value="([^"]*)"`)

// The set of the example is what all sets must be; its messages include those of the package.
func TestLanguages(t *testing.T) { sitetest.Languages(t, set) }
