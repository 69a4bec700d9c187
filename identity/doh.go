package identity

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pdskit/pdskit/identity/safehttp"
)

// DefaultDNSOverHTTPS is the server that DNSOverHTTPS asks by default.
const DefaultDNSOverHTTPS = "https://cloudflare-dns.com/dns-query"

// maxDNSMessage bounds an answer, in bytes, as DNS itself does.
const maxDNSMessage = 64 << 10

// DNSOverHTTPS looks up TXT records by HTTPS (RFC 8484), for platforms without sockets for DNS,
// such as a Cloudflare Worker. The zero value is ready to use. It is safe for concurrent use. The
// server is trusted, like a system's resolver.
type DNSOverHTTPS struct {
	// URL is the server's address. Empty: [DefaultDNSOverHTTPS].
	URL string
	// HTTP makes the requests. Nil: the client of safehttp.NewClient.
	HTTP *http.Client
}

// dohClient is the client of the zero value.
var dohClient = safehttp.NewClient(safehttp.Config{Timeout: 5 * time.Second, MaxBody: maxDNSMessage})

// LookupTXT returns the TXT records of a name, in the order of the response. Errors are a
// *net.DNSError or those of the request.
func (d *DNSOverHTTPS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	failed := func(text string, missing bool) error {
		return &net.DNSError{Err: text, Name: name, Server: cmp.Or(d.URL, DefaultDNSOverHTTPS), IsNotFound: missing, IsTemporary: !missing}
	}
	asked, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, failed("no name of DNS", true)
	}
	question := dnsmessage.Question{Name: asked, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}
	// The ID is 0, so that equal questions have one URL and can be answered by a cache.
	query, err := (&dnsmessage.Message{Header: dnsmessage.Header{RecursionDesired: true}, Questions: []dnsmessage.Question{question}}).Pack()
	if err != nil {
		return nil, failed("no name of DNS", true)
	}
	answer, err := d.ask(ctx, query)
	if err != nil {
		return nil, err
	}
	list, code, err := txtRecords(answer)
	switch {
	case err != nil:
		return nil, failed(err.Error(), false)
	case code == dnsmessage.RCodeNameError || code == dnsmessage.RCodeSuccess && len(list) == 0:
		return nil, failed("no such host", true)
	case code != dnsmessage.RCodeSuccess:
		return nil, failed(fmt.Sprintf("the server answers %s", code), false)
	}
	return list, nil
}

func (d *DNSOverHTTPS) ask(ctx context.Context, query []byte) ([]byte, error) {
	address := cmp.Or(d.URL, DefaultDNSOverHTTPS)
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+separator+"dns="+base64.RawURLEncoding.EncodeToString(query), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/dns-message")
	client := d.HTTP
	if client == nil {
		client = dohClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: DNS over HTTPS: status %d", ErrUnavailable, res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxDNSMessage+1))
	if err == nil && len(body) > maxDNSMessage {
		err = fmt.Errorf("%w: answer of DNS over HTTPS", ErrTooLarge)
	}
	return body, err
}

// txtRecords returns the texts of the TXT records in an answer, and its code. Records of other
// types, such as the aliases on the way, are left out.
func txtRecords(message []byte) (list []string, code dnsmessage.RCode, err error) {
	var p dnsmessage.Parser
	head, err := p.Start(message)
	if err != nil {
		return nil, 0, err
	}
	if !head.Response || head.Truncated {
		return nil, 0, fmt.Errorf("not a whole answer")
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, 0, err
	}
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return list, head.RCode, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if h.Type != dnsmessage.TypeTXT || h.Class != dnsmessage.ClassINET {
			if err := p.SkipAnswer(); err != nil {
				return nil, 0, err
			}
			continue
		}
		txt, err := p.TXTResource()
		if err != nil {
			return nil, 0, err
		}
		list = append(list, strings.Join(txt.TXT, ""))
	}
}
