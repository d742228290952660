//go:build amd64 || arm64

package shm

// pause is in pause_amd64.s and pause_arm64.s. n is at least 1.
//
//go:noescape
func pause(n uint32)
