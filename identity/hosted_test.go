package identity

import "testing"

func TestHostedAt(t *testing.T) {
	for _, c := range []struct {
		endpoint, address string
		want              bool
	}{
		{"https://pds.example.com", "https://pds.example.com", true},
		{"https://PDS.example.com", "https://pds.example.com", true},
		{"https://pds.example.com:443", "https://pds.example.com", true},
		{"http://localhost:80", "http://localhost", true},
		{"https://pds.example.com:8443", "https://pds.example.com", false},
		{"http://pds.example.com", "https://pds.example.com", false},
		{"https://other.example.com", "https://pds.example.com", false},
		{"", "https://pds.example.com", false},
		{"https://pds.example.com", "", false},
		{"https://pds.example.com", ":", false},
	} {
		d := &Document{Services: []Service{{ID: "#" + PDSID, Type: PDSType, Endpoint: c.endpoint}}}
		if got := d.HostedAt(c.address); got != c.want {
			t.Errorf("%q at %q: %v", c.endpoint, c.address, got)
		}
	}
	if (&Document{}).HostedAt("") {
		t.Error("a document without a server is at an empty address")
	}
}
