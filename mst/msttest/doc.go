// Package msttest tests implementations of the Merkle Search Tree of the AT Protocol, whatever
// their internals.
//
// Describe an implementation with a [Library] of a few functions, and run the suite:
//
//	func TestTree(t *testing.T) { msttest.Run(t, library, msttest.Options{}) }
//
//	func BenchmarkTree(b *testing.B) { msttest.Benchmark(b, library) }
//
// Only Empty and the methods of Tree are required. Optional features (loading, building in one
// pass, change sets, inversion, proofs, differences) are tested if the library has them. Otherwise
// their tests are skipped with a message.
//
// # What is tested
//
// Every [Law] is one subtest. Among them:
//
//   - Random histories: batches of operations on keys that were mined to be tall and to share
//     prefixes, with trees that are emptied now and then. After each batch the root and the nodes
//     must equal those of [Model], which sorts its entries and builds the tree anew in the most
//     obvious way.
//   - Hostile vectors: trees that must be refused, each named after the attack. A library must
//     return an error. It must not return a tree, panic, or read endlessly.
//   - Faults: a Source that fails at every single read in turn. The error must be returned, and the
//     tree must be unchanged.
//   - Slices: the nodes that a change adds, with its covering proof, must be enough to undo its
//     operations, in one batch and one by one in both orders.
//
// The suite was made to find faults: this package's own tests run it against trees with one fault
// each, and every one of them must fail.
//
// # Other uses
//
// [Model], [Vectors], [Keys] and the Sources are exported for fuzzers, and for tests of programs
// that are not Go libraries. [Law.Check] runs one law without package testing.
package msttest
