//go:build !js

// Testworker is the program in the Durable Objects of the tests of package cloudflare. It is for
// GOOS=js.
package main

func main() {}
