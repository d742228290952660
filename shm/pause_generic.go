//go:build !amd64 && !arm64

package shm

// pause passes some time, without a hint to the processor.
//
//go:noinline
func pause(n uint32) {
	for ; n > 0; n-- {
	}
}
