// Package safehttp has an HTTP client for untrusted URLs. It protects the host's own network
// against server-side request forgery, and bounds memory and time.
//
//	client := safehttp.NewClient(safehttp.Config{})
//	resp, err := client.Get(url) // errors.Is(err, safehttp.ErrAddress): refused
//
// The client checks the address of a connection when it dials that very address. So it does not
// matter what a name resolved to before (DNS rebinding), or whether the name came from a redirect.
// Proxies of the environment are not used, because they would dial instead of the client.
//
// On GOOS=js the runtime makes the connections and resolves names, so addresses cannot be checked.
// Host names that are not public by themselves are refused, and everything else is checked as on
// other platforms.
package safehttp
