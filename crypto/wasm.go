package crypto

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// ownTable makes K-256 signatures and public keys without the table of package secp256k1, which multiplies
// the generator by 32 additions. To unpack that takes 0.1 seconds as WebAssembly and some megabytes, and a
// program in a Durable Object starts often, with little memory, to sign once or twice. The signatures are
// the same.
const ownTable = runtime.GOARCH == "wasm"

// A number below the order is the sum of windows digits from -31 to 32, each times a power of 2^width.
const (
	width   = 6
	half    = 1 << (width - 1)
	windows = 256/width + 1
)

// affine is a point, whose coordinates are normalized.
type affine struct{ x, y secp256k1.FieldVal }

func (a *affine) jacobian() (p secp256k1.JacobianPoint) {
	p.X, p.Y = a.x, a.y
	p.Z.SetInt(1)
	return p
}

// generator is the base point of the curve.
var generator = sync.OnceValue(func() *secp256k1.JacobianPoint {
	var g affine
	params := secp256k1.Params()
	g.x.SetByteSlice(params.Gx.Bytes())
	g.y.SetByteSlice(params.Gy.Bytes())
	p := g.jacobian()
	return &p
})

// multiples are 1 to half times the generator times 2^(width i), of all windows i.
var multiples = sync.OnceValue(func() *[windows][half]affine {
	var points [windows * half]secp256k1.JacobianPoint
	base := *generator()
	for i := 0; i < len(points); i += half {
		points[i] = base
		for j := 1; j < half; j++ {
			secp256k1.AddNonConst(&points[i+j-1], &base, &points[i+j])
		}
		secp256k1.DoubleNonConst(&points[i+half-1], &base)
	}
	// One inversion for all: the inverse of the product of all Z, from which each one's is taken.
	var before [windows * half]secp256k1.FieldVal // the product of the Z of those before
	var all secp256k1.FieldVal
	all.SetInt(1)
	for i := range points {
		before[i] = all
		all.Mul(&points[i].Z).Normalize()
	}
	all.Inverse()
	table := new([windows][half]affine)
	for i := len(points) - 1; i >= 0; i-- {
		p, to := &points[i], &table[i/half][i%half]
		var inverse, square secp256k1.FieldVal
		inverse.Mul2(&all, &before[i])
		all.Mul(&p.Z).Normalize()
		square.SquareVal(&inverse)
		to.x.Mul2(&p.X, &square).Normalize()
		to.y.Mul2(&p.Y, square.Mul(&inverse)).Normalize()
	}
	return table
})

// multiply multiplies the generator by means of multiples.
func multiply(k *secp256k1.ModNScalar, result *secp256k1.JacobianPoint) {
	table, b := multiples(), k.Bytes()
	*result = secp256k1.JacobianPoint{}
	carry := 0
	for i := range windows {
		at := i * width
		digit := int(b[31-at/8]) >> (at % 8)
		if at/8 < 31 {
			digit |= int(b[30-at/8]) << (8 - at%8)
		}
		digit = digit&(2*half-1) + carry
		if carry = 0; digit > half {
			digit, carry = digit-2*half, 1
		}
		switch {
		case digit > 0:
			p := table[i][digit-1].jacobian()
			secp256k1.AddNonConst(result, &p, result)
		case digit < 0:
			p := table[i][-digit-1].jacobian()
			p.Y.Negate(1).Normalize()
			secp256k1.AddNonConst(result, &p, result)
		}
	}
}

// signed counts signatures, up to fewSignatures: as many cost less than to make the multiples.
var signed atomic.Int32

const fewSignatures = 16

// signK256 is the signature of RFC 6979 with the lower one of both values of s.
func signK256(d *secp256k1.ModNScalar, digest, sig []byte) {
	secret := d.Bytes()
	var e secp256k1.ModNScalar
	e.SetByteSlice(digest)
	for try := uint32(0); ; try++ {
		k := secp256k1.NonceRFC6979(secret[:], digest, nil, nil, try)
		var p secp256k1.JacobianPoint
		if signed.Load() < fewSignatures {
			signed.Add(1)
			secp256k1.ScalarMultNonConst(k, generator(), &p)
		} else {
			multiply(k, &p)
		}
		p.ToAffine()
		var r, s secp256k1.ModNScalar
		r.SetBytes(p.X.Bytes())
		s.Mul2(d, &r).Add(&e).Mul(k.InverseNonConst())
		if r.IsZero() || s.IsZero() {
			continue // once in 2²⁵⁶
		}
		if s.IsOverHalfOrder() {
			s.Negate()
		}
		r.PutBytesUnchecked(sig[:32])
		s.PutBytesUnchecked(sig[32:])
		return
	}
}

// publicK256 is the public key of a private one.
func publicK256(d *secp256k1.ModNScalar) *secp256k1.PublicKey {
	var p secp256k1.JacobianPoint
	secp256k1.ScalarMultNonConst(d, generator(), &p)
	p.ToAffine()
	return secp256k1.NewPublicKey(&p.X, &p.Y)
}
