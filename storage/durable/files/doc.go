// Package files keeps the objects of package durable in SQLite files, one per account.
//
// [Open] opens a whole store in a directory: the objects, and what they share in a file of package
// sqlite. [OpenObjects] opens the objects alone, for a shared store of another kind.
package files
