// Mutate checks whether the tests of a package notice faults in it.
//
//	go run ./internal/mutate ./crypto ./commit
//
// It changes the code in one place at a time, and runs the package's own tests on each such mutant.
// A mutant that no test notices has survived: either a test is missing, or the change makes no
// difference. Those of the second kind are listed in equivalent.txt, each with its reason. Its
// names are those that -list prints: where changes of one function read alike, the second ends in
// (2).
//
// The kinds of changes are:
//
//	negate  a comparison or condition says the opposite
//	bound   < becomes <=, >= becomes >, and so on
//	logic   && becomes ||, and the reverse
//	error   an error is not returned, but nil
//	early   an if whose body leaves the block never does
//	const   an integer constant is one greater
//	remove  a call or an assignment is left out
//
// All mutants of a run are compiled into one test binary, through an overlay, so that no file of
// the tree is touched. A variable of the environment chooses one. Which mutants are taken depends
// only on the code and on -seed. Kinds take turns, so that the many comparisons do not hide the few
// errors.
//
// Mutants are not made where a difference is no fault or only costs time: messages (String, Error,
// LogValue, fmt.Errorf and the like), what is returned beside an error, capacities (make,
// slices.Grow), durations, locks, pools and Close. Nor are they made of code for another platform.
//
// The last samples of 30 mutants, killed of those that are not equivalent, before their survivors
// were seen to by tests, simpler code or equivalent.txt:
//
//	crypto               seed 22  27 of 28
//	commit               seed 21  26 of 28
//	car                  seed 21  28 of 29
//	mst                  seed 21  25 of 30
//	lexicon/data         seed 21  26 of 30
//	repo                 seed 25  22 of 27
//	repo/account         seed 25  26 of 29
//	identity             seed 21  26 of 30
//	xrpc/serviceauth     seed 22  26 of 27
//	xrpc/oauth/dpop      seed 22  25 of 29
//	xrpc/oauth/provider  seed 22  27 of 30
//	xrpc/oauth/client    seed 22  27 of 30
package main
