// Package wire is what a sender and its router must agree on, byte by byte: the value that travels beside
// each frame (meta.go), the token by which a sender is handed to another process (token.go), and the
// application area of the segment, where the router keeps one entry per pipe (layout.go, directory.go,
// entry.go, notice.go).
//
// Each handshake has both of its halves in one file here. Nothing in this package trusts what it reads from
// shared memory: every word is loaded once, and what does not fit is an answer, never a panic.
package wire
