//go:build !purego

#include "textflag.h"

// The round constants of SHA-256.
DATA rounds<>+0(SB)/8, $0x71374491428a2f98
DATA rounds<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA rounds<>+16(SB)/8, $0x59f111f13956c25b
DATA rounds<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA rounds<>+32(SB)/8, $0x12835b01d807aa98
DATA rounds<>+40(SB)/8, $0x550c7dc3243185be
DATA rounds<>+48(SB)/8, $0x80deb1fe72be5d74
DATA rounds<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA rounds<>+64(SB)/8, $0xefbe4786e49b69c1
DATA rounds<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA rounds<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA rounds<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA rounds<>+96(SB)/8, $0xa831c66d983e5152
DATA rounds<>+104(SB)/8, $0xbf597fc7b00327c8
DATA rounds<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA rounds<>+120(SB)/8, $0x1429296706ca6351
DATA rounds<>+128(SB)/8, $0x2e1b213827b70a85
DATA rounds<>+136(SB)/8, $0x53380d134d2c6dfc
DATA rounds<>+144(SB)/8, $0x766a0abb650a7354
DATA rounds<>+152(SB)/8, $0x92722c8581c2c92e
DATA rounds<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA rounds<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA rounds<>+176(SB)/8, $0xd6990624d192e819
DATA rounds<>+184(SB)/8, $0x106aa070f40e3585
DATA rounds<>+192(SB)/8, $0x1e376c0819a4c116
DATA rounds<>+200(SB)/8, $0x34b0bcb52748774c
DATA rounds<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA rounds<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA rounds<>+224(SB)/8, $0x78a5636f748f82ee
DATA rounds<>+232(SB)/8, $0x8cc7020884c87814
DATA rounds<>+240(SB)/8, $0xa4506ceb90befffa
DATA rounds<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL rounds<>(SB), RODATA|NOPTR, $256

// The order of bytes in words, and the state before the first block: A, B, E, F and C, D, G, H.
DATA swap<>+0(SB)/8, $0x0405060700010203
DATA swap<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL swap<>(SB), RODATA|NOPTR, $16
DATA abef<>+0(SB)/8, $0x510e527f9b05688c
DATA abef<>+8(SB)/8, $0x6a09e667bb67ae85
GLOBL abef<>(SB), RODATA|NOPTR, $16
DATA cdgh<>+0(SB)/8, $0x1f83d9ab5be0cd19
DATA cdgh<>+8(SB)/8, $0x3c6ef372a54ff53a
GLOBL cdgh<>(SB), RODATA|NOPTR, $16

// WORDS loads the words of four rounds of both blocks, into A and B.
#define WORDS(at, A, B) \
	MOVOU at(SI), A      \
	PSHUFB X14, A        \
	MOVOU (64+at)(SI), B \
	PSHUFB X14, B

// NEXT makes the next four words of a block of the last sixteen, in place of the oldest.
#define NEXT(A, B, C, D) \
	SHA256MSG1 B, A    \
	MOVOU D, X13       \
	PALIGNR $4, C, X13 \
	PADDD X13, A       \
	SHA256MSG2 D, A

// ROUNDS does four rounds of both hashes, with the constants at an offset and their words.
#define ROUNDS(at, A, B) \
	MOVOU at(AX), X0       \
	PADDD A, X0            \
	SHA256RNDS2 X0, X1, X2 \
	PSHUFD $0x0e, X0, X0   \
	SHA256RNDS2 X0, X2, X1 \
	MOVOU at(AX), X0       \
	PADDD B, X0            \
	SHA256RNDS2 X0, X7, X8 \
	PSHUFD $0x0e, X0, X0   \
	SHA256RNDS2 X0, X8, X7

// func Heads(blocks *[2][64]byte, heads *[2]uint64)
//
// Two hashes of one block each side by side: the instructions of one run while those of the other
// wait for their results. X1, X2 and X7, X8 are the states, X3 to X6 and X9 to X12 the words.
TEXT ·Heads(SB), NOSPLIT, $0-16
	MOVQ blocks+0(FP), SI
	MOVQ heads+8(FP), DI
	LEAQ rounds<>(SB), AX
	MOVOU swap<>(SB), X14
	MOVOU abef<>(SB), X1
	MOVOU cdgh<>(SB), X2
	MOVOU X1, X7
	MOVOU X2, X8

	WORDS(0, X3, X9)
	ROUNDS(0, X3, X9)
	WORDS(16, X4, X10)
	ROUNDS(16, X4, X10)
	WORDS(32, X5, X11)
	ROUNDS(32, X5, X11)
	WORDS(48, X6, X12)
	ROUNDS(48, X6, X12)
	NEXT(X3, X4, X5, X6)
	NEXT(X9, X10, X11, X12)
	ROUNDS(64, X3, X9)
	NEXT(X4, X5, X6, X3)
	NEXT(X10, X11, X12, X9)
	ROUNDS(80, X4, X10)
	NEXT(X5, X6, X3, X4)
	NEXT(X11, X12, X9, X10)
	ROUNDS(96, X5, X11)
	NEXT(X6, X3, X4, X5)
	NEXT(X12, X9, X10, X11)
	ROUNDS(112, X6, X12)
	NEXT(X3, X4, X5, X6)
	NEXT(X9, X10, X11, X12)
	ROUNDS(128, X3, X9)
	NEXT(X4, X5, X6, X3)
	NEXT(X10, X11, X12, X9)
	ROUNDS(144, X4, X10)
	NEXT(X5, X6, X3, X4)
	NEXT(X11, X12, X9, X10)
	ROUNDS(160, X5, X11)
	NEXT(X6, X3, X4, X5)
	NEXT(X12, X9, X10, X11)
	ROUNDS(176, X6, X12)
	NEXT(X3, X4, X5, X6)
	NEXT(X9, X10, X11, X12)
	ROUNDS(192, X3, X9)
	NEXT(X4, X5, X6, X3)
	NEXT(X10, X11, X12, X9)
	ROUNDS(208, X4, X10)
	NEXT(X5, X6, X3, X4)
	NEXT(X11, X12, X9, X10)
	ROUNDS(224, X5, X11)
	NEXT(X6, X3, X4, X5)
	NEXT(X12, X9, X10, X11)
	ROUNDS(240, X6, X12)

	// A and B are the upper half of the first state.
	MOVOU abef<>(SB), X13
	PADDD X13, X1
	PADDD X13, X7
	MOVHPS X1, 0(DI)
	MOVHPS X7, 8(DI)
	RET

// WORD and ROUND are WORDS and ROUNDS for one message.
#define WORD(at, A) \
	MOVOU at(SI), A \
	PSHUFB X14, A

#define ROUND(at, A) \
	MOVOU at(AX), X0       \
	PADDD A, X0            \
	SHA256RNDS2 X0, X1, X2 \
	PSHUFD $0x0e, X0, X0   \
	SHA256RNDS2 X0, X2, X1

// func block(s *state, first *byte, n int)
//
// X1, X2 are the state, X3 to X6 the words.
TEXT ·block(SB), NOSPLIT, $0-24
	MOVQ s+0(FP), DI
	MOVQ first+8(FP), SI
	MOVQ n+16(FP), CX
	LEAQ rounds<>(SB), AX
	MOVOU swap<>(SB), X14
	MOVOU 0(DI), X1
	MOVOU 16(DI), X2

more:
	MOVOU X1, X7
	MOVOU X2, X8
	WORD(0, X3)
	ROUND(0, X3)
	WORD(16, X4)
	ROUND(16, X4)
	WORD(32, X5)
	ROUND(32, X5)
	WORD(48, X6)
	NEXT(X3, X4, X5, X6)
	ROUND(48, X6)
	NEXT(X4, X5, X6, X3)
	ROUND(64, X3)
	NEXT(X5, X6, X3, X4)
	ROUND(80, X4)
	NEXT(X6, X3, X4, X5)
	ROUND(96, X5)
	NEXT(X3, X4, X5, X6)
	ROUND(112, X6)
	NEXT(X4, X5, X6, X3)
	ROUND(128, X3)
	NEXT(X5, X6, X3, X4)
	ROUND(144, X4)
	NEXT(X6, X3, X4, X5)
	ROUND(160, X5)
	NEXT(X3, X4, X5, X6)
	ROUND(176, X6)
	NEXT(X4, X5, X6, X3)
	ROUND(192, X3)
	NEXT(X5, X6, X3, X4)
	ROUND(208, X4)
	NEXT(X6, X3, X4, X5)
	ROUND(224, X5)
	ROUND(240, X6)
	PADDD X7, X1
	PADDD X8, X2
	ADDQ $64, SI
	DECQ CX
	JNZ more
	MOVOU X1, 0(DI)
	MOVOU X2, 16(DI)
	RET

// func cpuid(leaf uint32) (ebx, ecx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-16
	MOVL leaf+0(FP), AX
	XORL CX, CX
	CPUID
	MOVL BX, ebx+8(FP)
	MOVL CX, ecx+12(FP)
	RET

// func maxLeaf() uint32
TEXT ·maxLeaf(SB), NOSPLIT, $0-4
	XORL AX, AX
	XORL CX, CX
	CPUID
	MOVL AX, ret+0(FP)
	RET
