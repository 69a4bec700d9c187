package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// readSecret reads 32 bytes in hexadecimal from a file. If there is no such file, it is made with
// random ones, which only its owner may read.
func readSecret(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return newSecret(file)
	}
	if err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("%s does not hold 32 bytes in hexadecimal", file)
	}
	return b, nil
}

// newSecret makes the file, which is there as a whole and to last, or not at all: sessions that are
// stored later cannot be read without it.
func newSecret(file string) ([]byte, error) {
	b := make([]byte, 32)
	rand.Read(b)
	return b, durablefile.Write(file, []byte(hex.EncodeToString(b)+"\n"))
}

// readKey reads the key by which the app authenticates at servers (ES256), or makes it.
func readKey(file string) (client.Key, error) {
	b, err := readSecret(file)
	if err != nil {
		return client.Key{}, err
	}
	key, err := crypto.ParsePrivateKey(crypto.P256, b)
	if err != nil {
		return client.Key{}, fmt.Errorf("%s: %w", file, err)
	}
	return client.Key{Signer: key}, nil
}
