package main

import (
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/net/dns/dnsmessage"
)

const checkout = "../../../.."

// The whole guide is followed, if PDSKIT_GUIDE is set.
func TestGuide(t *testing.T) {
	if os.Getenv("PDSKIT_GUIDE") == "" {
		t.Skip("PDSKIT_GUIDE is not set")
	}
	missing, err := Follow(checkout, os.Getenv("PDSKIT_GUIDE_BUILD"), testing.Verbose())
	if missing != "" {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestMain lets copies of this program be what they are told.
func TestMain(m *testing.M) {
	if os.Getenv(stageVariable) != "" || strings.HasSuffix(os.Args[0], "ctl") {
		main()
		return
	}
	os.Exit(m.Run())
}

// All code of the guide is run, or says why not; and the plan has no block that there is not.
func TestBlocks(t *testing.T) {
	blocks, err := readGuide(os.DirFS(guideOf(checkout)))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("plan_linux.go")
	if err != nil {
		t.Fatal(err)
	}
	plan := string(source)
	other, err := os.ReadFile("guide_linux.go")
	if err != nil {
		t.Fatal(err)
	}
	plan += string(other)
	var keys, why []string
	for _, b := range blocks {
		if b.Why != "" {
			why = append(why, b.Page+": "+b.Why)
			continue
		}
		keys = append(keys, b.Key())
		if !strings.Contains(plan, `"`+b.Key()+`"`) {
			t.Errorf("nobody runs %s", b.Key())
		}
	}
	for _, m := range regexp.MustCompile(`"([a-z-]+/[a-z-]+)"`).FindAllStringSubmatch(plan, -1) {
		_, err := os.Stat(guideOf(checkout) + "/" + strings.Split(m[1], "/")[0] + ".md")
		if err == nil && !slices.Contains(keys, m[1]) {
			t.Errorf("the guide has no %s", m[1])
		}
	}
	if len(keys) < 40 || len(why) > 20 {
		t.Errorf("%d blocks are run, and %d are not: %q", len(keys), len(why), why)
	}
}

// Code without a name, names without code, and names that are there twice are errors.
func TestReadGuide(t *testing.T) {
	for text, want := range map[string]string{
		"<!-- run: a -->\n\n    x\n\n    y\n\ntext\n": "",
		"    x\n":                                                "code without a comment",
		"<!-- run: a -->\n\ntext\n\n    x\n":                     "text between",
		"<!-- run: a -->\n":                                      "without code at the end",
		"<!-- run: a -->\n<!-- run: b -->\n\n    x\n":            "without code before it",
		"<!-- run: a -->\n\n    x\n\n<!-- run: a -->\n\n    y\n": "twice",
	} {
		list, err := readGuide(fstest.MapFS{"p.md": {Data: []byte(text)}})
		if want == "" && (err != nil || len(list) != 1 || list[0].Text != "x\n\ny\n" || list[0].Key() != "p/a") {
			t.Errorf("%q: %v, %+v", text, err, list)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	n := Names{"example.com": "a.test", "pds.example.com": "b.test", "alice.pds.example.com": "c.test"}
	if got := n.Apply("alice.pds.example.com bob.pds.example.com you@example.com"); got != "c.test bob.b.test you@a.test" {
		t.Error(got)
	}
}

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"/usr/sbin/nginx -g 'daemon on; x'": {"/usr/sbin/nginx", "-g", "daemon on; x"},
		`a  "b c"d ""`:                      {"a", "b cd", ""},
		"":                                  nil,
	} {
		if got := words(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q", line, got)
		}
	}
}

func TestUnitFile(t *testing.T) {
	u := Unit{Name: "x.service", values: map[string][]string{}}
	if err := u.add("# c\n[Service]\nType=notify\nEnvironment=A=1 B=\"2 3\"\nExecStart=a \\\n b\n"); err != nil {
		t.Fatal(err)
	}
	if err := u.add("[Service]\nExecStart=\nExecStart=c\nType=simple\n"); err != nil {
		t.Fatal(err)
	}
	if u.get("Type", "") != "simple" || u.get("ExecStart", "") != "c" || len(u.values["Service.ExecStart"]) != 1 || u.get("User", "root") != "root" {
		t.Errorf("%+v", u)
	}
	if err := u.add("nothing"); err == nil {
		t.Error("a line that is none")
	}
}

func TestDNS(t *testing.T) {
	var d DNS
	d.Set("11.0.0.1", "pds.site.test", "*.pds.site.test")
	d.SetText("_atproto.site.test", "did=x")
	query := func(name string, kind dnsmessage.Type) (m dnsmessage.Message) {
		t.Helper()
		q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
		in, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out, err := d.answer(in)
		if err == nil {
			err = m.Unpack(out)
		}
		if err != nil || m.ID != 7 {
			t.Fatal(err, m.ID)
		}
		return m
	}
	if m := query("Any.pds.site.test.", dnsmessage.TypeA); len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A != [4]byte{11, 0, 0, 1} {
		t.Errorf("%+v", m)
	}
	if m := query("pds.site.test.", dnsmessage.TypeAAAA); len(m.Answers) != 0 || m.RCode != dnsmessage.RCodeSuccess {
		t.Errorf("%+v", m)
	}
	if m := query("_atproto.site.test.", dnsmessage.TypeTXT); len(m.Answers) != 1 {
		t.Errorf("%+v", m)
	}
	if m := query("site.test.", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("%+v", m)
	}
	if _, err := d.answer([]byte("x")); err == nil {
		t.Error("an answer to nothing")
	}
}

// The mail server keeps what it is sent.
func TestMailbox(t *testing.T) {
	var m Mailbox
	here, there := net.Pipe()
	go m.session(there)
	read := func() {
		buf := make([]byte, 256)
		if _, err := here.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	read()
	for _, line := range []string{"EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<You@b>", "DATA", "Subject: s\r\n\r\nABCDE-FGHIJ\r\n.", "QUIT"} {
		if _, err := io.WriteString(here, line+"\r\n"); err != nil {
			t.Fatal(err)
		}
		read()
	}
	text, err := m.Wait("you@b", 0)
	if err != nil || mailCode.FindString(text) != "ABCDE-FGHIJ" || m.Count() != 1 {
		t.Error(text, err)
	}
}
