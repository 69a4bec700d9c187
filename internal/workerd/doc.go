// Package workerd runs workerd, the runtime of Cloudflare Workers, for tests: the npm package of
// that name, as internal/testenv finds it. It listens on the loopback interface only.
package workerd
