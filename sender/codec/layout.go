package codec

import (
	"errors"
	"fmt"
	"reflect"
	"structs"
)

// ErrLayout is wrapped by Struct's errors: the type has no fixed layout.
var ErrLayout = errors.New("codec: no fixed layout")

// ErrPayload is returned for bytes that are no value of a fixed layout: too many of them, too few, or a bool of 2.
var ErrPayload = errors.New("codec: not a value of the type")

// payloadError is an ErrPayload that says why.
type payloadError string

func (e payloadError) Error() string { return string(e) }

func (payloadError) Is(target error) bool { return target == ErrPayload }

// Struct returns the Layout of T: a struct, an array, or a number, in which everything has a fixed size and
// means the same in every process. Allowed are numbers of a stated size (int32, not int), bools, arrays, and
// structs that have a field of type structs.HostLayout (usually the first: _ structs.HostLayout), also
// unexported and blank fields. Padding is sent as it is.
//
// The error wraps ErrLayout and names every field that does not fit, and what to do instead. The check costs
// some microseconds: keep the Layout.
func Struct[T any]() (*Layout[T], error) {
	t := reflect.TypeFor[T]()
	var c checker
	bools := c.check(t, t.String())
	if err := errors.Join(c.errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLayout, err)
	}
	return newLayout[T](int(t.Size()), bools), nil
}

// MustStruct is Struct for a package's variables: it panics where Struct returns an error.
func MustStruct[T any]() *Layout[T] {
	l, err := Struct[T]()
	if err != nil {
		panic(err)
	}
	return l
}

type checker struct{ errs []error }

var hostLayout = reflect.TypeFor[structs.HostLayout]()

// What to send instead.
var instead = map[reflect.Kind]string{
	reflect.Int:           "its size is not the same everywhere: say int64",
	reflect.Uint:          "its size is not the same everywhere: say uint64",
	reflect.Uintptr:       "an address means nothing to another process; for a number say uint64",
	reflect.String:        "it refers to memory of this process: say an array, as [32]byte, and copy into it",
	reflect.Slice:         "it refers to memory of this process: say an array, and perhaps a count",
	reflect.Map:           "it refers to memory of this process: codec.JSON can send it",
	reflect.Pointer:       "it refers to memory of this process: say what it points to",
	reflect.UnsafePointer: "it refers to memory of this process: say what it points to",
	reflect.Interface:     "it refers to memory of this process: say a type",
	reflect.Chan:          "it refers to memory of this process: send what would go through it",
	reflect.Func:          "it refers to code of this process: say a number that stands for it",
}

// Types that people try, with their own advice.
var insteadOf = map[string]string{
	"time.Time": "it refers to a time zone of this process: say int64, and UnixNano; or use codec.Binary",
}

// check reports what is wrong with t, and returns where its bools are.
func (c *checker) check(t reflect.Type, path string) *bools {
	if say, ok := insteadOf[t.String()]; ok {
		c.wrong(t, path, say)
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return c.checkStruct(t, path)
	case reflect.Array:
		if of := c.check(t.Elem(), path+"[]"); of != nil && t.Len() > 0 {
			return &bools{count: t.Len(), stride: int(t.Elem().Size()), each: []*bools{of}}
		}
		return nil
	case reflect.Bool:
		return &bools{count: 1}
	}
	if say, bad := instead[t.Kind()]; bad {
		c.wrong(t, path, say)
	}
	return nil
}

func (c *checker) checkStruct(t reflect.Type, path string) *bools {
	if t == hostLayout {
		return nil
	}
	fixed := false
	own := &bools{count: 1}
	for f := range t.Fields() {
		fixed = fixed || f.Type == hostLayout
		if of := c.check(f.Type, path+"."+f.Name); of != nil {
			own.each = append(own.each, &bools{at: int(f.Offset), count: of.count, stride: of.stride, each: of.each})
		}
	}
	if !fixed {
		say := "the compiler may move its fields: add the field _ structs.HostLayout"
		if pkg := t.PkgPath(); pkg != "" && path != t.String() {
			say += " to it, or, if it is not yours, copy what you need of it"
		}
		c.wrong(t, path, say)
	}
	if len(own.each) == 0 {
		return nil
	}
	return own
}

func (c *checker) wrong(t reflect.Type, path, say string) {
	name := t.String()
	if t.Kind() == reflect.Struct && t.Name() == "" {
		name = "struct"
	}
	c.errs = append(c.errs, fmt.Errorf("%s (%s): %s", path, name, say))
}

// bools are the places of the bools in a type: the only fixed-size type of which some bytes are no value. They
// are a tree of repetitions; one that consists of nothing else is a single byte.
type bools struct {
	at     int
	count  int
	stride int
	each   []*bools
}

// wrong returns the offset of the first byte that is no bool, or -1.
func (p *bools) wrong(b []byte) int {
	if p == nil {
		return -1
	}
	if len(p.each) == 0 {
		if b[p.at] > 1 {
			return p.at
		}
		return -1
	}
	for i := range p.count {
		from := p.at + i*p.stride
		for _, of := range p.each {
			if at := of.wrong(b[from:]); at >= 0 {
				return from + at
			}
		}
	}
	return -1
}
