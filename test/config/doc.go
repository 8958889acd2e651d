// Package config reads the manifests of config/ as strictly as the API server
// would, and holds the reason for each right that Signpost asks for. Its tests
// check one against the other; the end-to-end tests check that a running
// Signpost has these rights and no others, and that they suffice.
package config
