//go:build !unix

package main_test

import "testing"

func runTests(m *testing.M) int { return m.Run() }

// backend is the environment of a server: SQLite and the disk.
func backend(testing.TB, string) []string { return nil }
