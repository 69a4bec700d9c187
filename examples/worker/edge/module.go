package edge

import _ "embed"

// Module is the Worker's main module, worker.mjs. It passes requests on to the object of the server
// that Config.Serves names.
//
//go:embed worker.mjs
var Module string
