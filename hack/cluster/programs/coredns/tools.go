//go:build programs

// Package programs makes CoreDNS a requirement of this module, so that go.mod
// and go.sum pin all that it is built from.
package programs

import _ "github.com/coredns/coredns"
