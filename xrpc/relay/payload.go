package relay

import (
	"errors"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/varint"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// maxMessage is the limit of a message in bytes (Sync specification). Longer messages are read, up
// to maxFrame, so that they can be distinguished from a broken connection.
const (
	maxMessage = 5_000_000
	maxFrame   = 8 << 20
)

// strip copies the payload of a message without its field "seq", and finds the account that the
// message is about: the field "repo" of a #commit, "did" of others. Fields that are not known stay
// as they are.
func strip(kind string, payload []byte) (out []byte, did syntax.DID, err error) {
	account := "did"
	if kind == commit.KindCommit {
		account = "repo"
	}
	r := cbor.NewReader(payload)
	n, err := r.Map()
	if err != nil {
		return nil, "", err
	}
	body := r.Pos()
	cutFrom, cutTo := -1, -1
	for range n {
		from := r.Pos()
		name, err := r.TextBytes()
		if err != nil {
			return nil, "", err
		}
		switch string(name) {
		case account:
			text, err := r.Text()
			if err != nil {
				return nil, "", err
			}
			if did, err = syntax.ParseDID(text); err != nil {
				return nil, "", err
			}
		case "seq":
			if err := r.Skip(); err != nil {
				return nil, "", err
			}
			cutFrom, cutTo = from, r.Pos()
		default:
			if err := r.Skip(); err != nil {
				return nil, "", err
			}
		}
	}
	if err := r.Done(); err != nil {
		return nil, "", err
	}
	if did == "" {
		return nil, "", errors.New("it is about no account")
	}
	if cutFrom < 0 {
		return append([]byte(nil), payload...), did, nil
	}
	out = make([]byte, 0, len(payload))
	out = cbor.AppendMap(out, n-1)
	out = append(out, payload[body:cutFrom]...)
	return append(out, payload[cutTo:]...), did, nil
}

// commitBlock finds the block of the commit in the CAR file of a message, most often the first. It
// is for files that were verified; of another one it may find none.
func commitBlock(file []byte, c cid.Cid) []byte {
	section := func() (b []byte, ok bool) {
		n, size, err := varint.Decode(file)
		if err != nil || n > uint64(len(file)-size) {
			return nil, false
		}
		b, file = file[size:size+int(n)], file[size+int(n):]
		return b, true
	}
	if _, ok := section(); !ok { // the header
		return nil
	}
	want := c.KeyString()
	for {
		b, ok := section()
		if !ok {
			return nil
		}
		if len(b) >= len(want) && string(b[:len(want)]) == want {
			return b[len(want):]
		}
	}
}

// weight is how many sequence numbers the event of a commit takes.
func weight(e *commit.Event) int { return min(max(1, len(e.Ops)), commit.MaxOps) }
