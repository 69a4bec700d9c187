// Package files keeps the objects of package durable in SQLite files, one for each account.
//
// [Open] opens a whole store in a directory: the objects, and their shared data in a file of
// package sqlite. [OpenObjects] opens only the objects, for a shared store of another kind.
package files
