package mail

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHook(t *testing.T) {
	var got map[string]string
	var token string
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
		token = r.Header.Get("Authorization")
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Error(r.Method, r.Header, err)
		}
		if status == http.StatusTemporaryRedirect {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		w.Write([]byte(`{"message":"` + strings.Repeat("long ", 1000) + `"}`))
	}))
	h, err := NewHook(HookConfig{URL: srv.URL + "/emails?key=hidden", Token: "secret", From: "PDS <pds@b.test>"})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Send(t.Context(), Message{"", "a@b.test", "Hello", "Zeile\nzwei ü"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"from": "PDS <pds@b.test>", "to": "a@b.test", "subject": "Hello", "text": "Zeile\nzwei ü"}
	if d := cmp.Diff(want, got); d != "" || token != "Bearer secret" {
		t.Error(d, token)
	}
	for _, status = range []int{http.StatusTemporaryRedirect, http.StatusForbidden, http.StatusInternalServerError} {
		err := h.Send(t.Context(), Message{To: "a@b.test"})
		if err == nil || len(err.Error()) > 400 || strings.Contains(err.Error(), "secret") {
			t.Errorf("status %d: %v", status, err)
		}
	}
	srv.Close()
	if err := h.Send(t.Context(), Message{To: "a@b.test"}); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("an error that shows the URL: %v", err)
	}
	for _, to := range hostileAddresses {
		if err := h.Send(t.Context(), Message{To: to}); !errors.Is(err, ErrAddress) {
			t.Errorf("to %q: %v", to, err)
		}
	}
}

func TestNewHookRefuses(t *testing.T) {
	for name, c := range map[string]HookConfig{
		"no URL":     {From: "a@b.test"},
		"plain HTTP": {URL: "http://mail.example.com", From: "a@b.test"},
		"malformed":  {URL: "https://us%er:secret@mail.test", From: "a@b.test"},
		"no sender":  {URL: "https://mail.example.com"},
		"bad sender": {URL: "https://mail.example.com", From: "a@b.test\r\nBcc: c@d.test"},
	} {
		if _, err := NewHook(c); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a password: %v", name, err)
		}
	}
}
