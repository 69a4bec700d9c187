//go:build !nopages

package pds

// withPages: the program has pages, and what needs them. See the package comment.
const withPages = true
