// Package msttest tests implementations of the Merkle Search Tree of the AT
// Protocol: yours, whatever it looks like inside.
//
// Describe it with a Library of a few functions, and run the suite:
//
//	func TestTree(t *testing.T) { msttest.Run(t, library, msttest.Options{}) }
//
//	func BenchmarkTree(b *testing.B) { msttest.Benchmark(b, library) }
//
// Only Empty and the methods of Tree are needed. What else a library offers
// (loading, building in one pass, change sets, inversion, proofs, differences) is
// tested where it is there, and skipped, saying so, where it is not.
//
// # What is tested
//
// Every Law is one subtest. Among them:
//
//   - Random histories: batches of operations on keys that were mined to be tall and to
//     share prefixes, with trees that are emptied now and then. After each step the root and
//     the nodes must be those of Model, which sorts its entries and builds the tree anew
//     in the most obvious way.
//   - Hostile vectors: trees that must be refused, each named after the attack. A
//     library must answer with an error: not with a tree, not with a panic, and not
//     by reading for ever.
//   - Faults: a Source that fails at every single read in turn. The error must come
//     out, and the tree must be as it was.
//   - Slices: the nodes that a change adds, with its covering proof, must be enough to
//     undo its operations, in one batch and one by one in both orders.
//
// The suite was made to find faults: this package's own tests run it against trees
// with one fault each, and every one of them must fail.
//
// # Other uses
//
// Model, Vectors, Keys and the Sources are exported, for fuzzers and for tests of
// programs that are not libraries of Go. Check runs one law without package testing.
package msttest
