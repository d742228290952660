package stress

import "unsafe"

// pageOf views a mapping, which the kernel has aligned to a page, as a diary.
func pageOf(mem []byte) *diaryPage {
	_ = mem[diarySize-1]
	return (*diaryPage)(unsafe.Pointer(&mem[0]))
}
