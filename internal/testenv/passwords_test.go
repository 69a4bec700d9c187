package testenv_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

// Hashes cost what they should unless a test says otherwise, and either kind is checked by what stands in it.
func TestCheapPasswords(t *testing.T) {
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{}), Now: time.Now}, box)
	s := credential.New(credential.Config{Accounts: accounts})
	hashOf := func(want string) string {
		hash, err := s.HashPassword(t.Context(), "correct horse")
		if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$"+want+"$") {
			t.Fatalf("hash %q, want %s; %v", hash, want, err)
		}
		return hash
	}
	cost := "m=19456,t=2,p=1"
	if runtime.GOOS == "js" {
		cost = "m=7168,t=5,p=1"
	}
	hashes := []string{hashOf(cost)}
	testenv.CheapPasswords()
	hashes = append(hashes, hashOf("m=8,t=1,p=1"))
	for _, hash := range hashes {
		for _, password := range []string{"correct horse", "wrong horse"} {
			_, err := s.CheckPassword(t.Context(), account.Account{DID: "did:plc:x", Password: hash}, password, false)
			if (err == nil) != (password == "correct horse") {
				t.Errorf("%s of %s: %v", password, hash, err)
			}
		}
	}
}
