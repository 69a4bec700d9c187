//go:build nopages

package pds

const withPages = false
