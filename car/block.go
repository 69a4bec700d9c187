package car

import "github.com/ipfs/go-cid"

// Block is a CID with the bytes it stands for.
type Block struct {
	CID  cid.Cid
	Data []byte
}
