// Package tools pins the programs that continuous integration runs, in a
// module of its own so that importers of shmrouter do not see their
// dependencies. Run them with `go tool -modfile=tools/go.mod NAME ./...`.
package tools
