package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"structs"

	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/sender/codec"
)

// report is a message: its memory is what is sent.
type report struct {
	_           structs.HostLayout
	Done, Total int64 // numbers
	Primes      int64 // so far
}

var reports = codec.MustStruct[report]()

// work is the worker: it counts the primes from its first argument to its second, and crashes at the third.
func work(ctx context.Context, s *sender.Sender) error {
	from, err1 := strconv.ParseInt(os.Args[1], 10, 64)
	to, err2 := strconv.ParseInt(os.Args[2], 10, 64)
	crashAt, err3 := strconv.ParseInt(os.Args[3], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	out := sender.NewTyped(s, reports)
	r := report{Total: to - from}
	for n := from; n < to; n++ {
		if n == crashAt {
			panic("this job was asked to crash")
		}
		if isPrime(n) {
			r.Primes++
		}
		if r.Done++; r.Done%10_000 == 0 || n == to-1 {
			if err := out.Send(ctx, &r); err != nil { // also when the job is cancelled
				return err
			}
		}
	}
	return nil
}

func isPrime(n int64) bool {
	if n < 4 || n%2 == 0 {
		return n == 2 || n == 3
	}
	for d := int64(3); d*d <= n; d += 2 {
		if n%d == 0 {
			return false
		}
	}
	return true
}
