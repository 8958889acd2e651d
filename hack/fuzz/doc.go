// Command fuzz runs every fuzz test of the module in turn, each for as long as the
// flag says, and reports how many inputs each one has seen. It ends with an error if
// one of them has failed; go test has then written the input beside that test.
package main
