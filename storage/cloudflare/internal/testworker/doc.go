//go:build !js

// Testworker is the program that tests of package cloudflare run in objects. It is for GOOS=js.
package main

func main() {}
