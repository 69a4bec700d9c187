package client

import (
	"strings"
	"testing"
)

// Of a server's refusal, its code and description count if it is a JSON object that says each once.
func TestErrorsOfServers(t *testing.T) {
	for text, want := range map[string]Error{
		`{"error":"invalid_grant","error_description":"no"}`: {Code: "invalid_grant", Description: "no"},
		`{"error":"invalid_grant"}`:                          {Code: "invalid_grant"},
		`{"Error":"invalid_grant"}`:                          {},
		`{"error":"invalid_grant","error":"x"}`:              {Description: "answer without an OAuth error"},
		`{"error":"invalid_grant"}{}`:                        {Description: "answer without an OAuth error"},
		`<html>`:                                             {Description: "answer without an OAuth error"},
		``:                                                   {Description: "answer without an OAuth error"},
		`{"error":"` + strings.Repeat("x", maxDescription) + `y"}`: {Code: strings.Repeat("x", maxDescription)},
	} {
		want.Server, want.Status = "https://a.test", 400
		if e := parseError("https://a.test", 400, []byte(text)); *e != want {
			t.Errorf("%.50s: %+v, want %+v", text, e, want)
		}
	}
}
