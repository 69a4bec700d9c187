// Package layers has the test that holds every package's imports against the
// list in allow.txt. ARCHITECTURE.md explains the layers.
package layers
