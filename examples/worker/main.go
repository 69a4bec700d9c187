//go:build !js

// Worker is a PDS in Cloudflare Durable Objects.
package main

func main() {}
