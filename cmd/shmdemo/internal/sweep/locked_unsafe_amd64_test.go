package sweep

import "unsafe"

// isLocked tells whether the instruction at an address of this program's code is one that waits for the
// processor's store buffer: with a LOCK prefix, an exchange with memory, or a fence.
func isLocked(pc uintptr) bool {
	code := (*[16]byte)(*(*unsafe.Pointer)(unsafe.Pointer(&pc)))[:]
	for i, b := range code {
		switch {
		case b == 0xf0: // LOCK
			return true
		case b == 0x66 || b == 0xf2 || b == 0xf3 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 || b == 0x65: // other prefixes
		case b&0xf0 == 0x40: // REX
		case b == 0x86 || b == 0x87: // XCHG
			return code[i+1]>>6 != 3
		case b == 0x0f: // MFENCE: 0f ae /6
			return code[i+1] == 0xae && code[i+2]>>3 == 0x1e
		default:
			return false
		}
	}
	return false
}
