package stress

import (
	"sync/atomic"
	"unsafe"
)

// pageOf views a mapping, which the kernel has aligned to a page, as a diary.
func pageOf(mem []byte) *diaryPage {
	_ = mem[diarySize-1]
	return (*diaryPage)(unsafe.Pointer(&mem[0]))
}

// load64 loads a word of a mapping, aligned as the kernel and docs/protocol.md have it.
func load64(mem []byte, off uint64) uint64 {
	_ = mem[off+7]
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&mem[off])))
}

func load32(mem []byte, off uint64) uint32 {
	_ = mem[off+3]
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&mem[off])))
}
