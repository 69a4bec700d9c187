// Package safehttp has an HTTP client for URLs that strangers have named. It guards the host's own
// network from server-side request forgery, and the host's memory and time.
//
//	client := safehttp.NewClient(safehttp.Config{})
//	resp, err := client.Get(url) // errors.Is(err, safehttp.ErrAddress): refused
//
// The client decides where a connection may go when it is made, on the very address that is
// dialled. So it makes no difference what a name resolved to before (DNS rebinding), or whether the
// name came from a redirect. Proxies of the environment are not used, because they would dial in
// the client's place.
//
// On GOOS=js the runtime makes the connections, and what names resolve to is its business. Hosts
// that say themselves that they are not public are refused, and all else is checked as elsewhere.
package safehttp
