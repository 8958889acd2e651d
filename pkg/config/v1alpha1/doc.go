// Package v1alpha1 is version v1alpha1 of SignpostConfiguration, the one file
// that configures Signpost: its types, their defaults, a strict reader and a
// validation that lists every fault with its path.
//
// Each field has a usable zero value or a default, so that an empty file is a
// working configuration. The package reads no file, no flag and no environment,
// and imports no other package of Signpost: what a field does is its reader's
// business.
package v1alpha1
