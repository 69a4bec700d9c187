package edge

import _ "embed"

// Module is the Worker's main module, worker.mjs. It passes requests on to the object of the server
// that Config.Serves names.
//
//go:embed worker.mjs
var Module string

// Routes is the module routes.mjs, which Module imports: which object answers a request of a server
// with an object for each account.
//
//go:embed routes.mjs
var Routes string
