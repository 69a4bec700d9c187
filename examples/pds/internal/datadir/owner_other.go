//go:build !unix

package datadir

// checkOwner: elsewhere files belong to whom they may.
func checkOwner(string) error { return nil }
