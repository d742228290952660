package codec_test

import (
	"fmt"
	"net/netip"
	"structs"

	"github.com/shmrouter/shmrouter/sender/codec"
)

// A struct whose memory is the message.
func ExampleStruct() {
	type Progress struct {
		_     structs.HostLayout
		Job   int64
		Done  float64
		Stage [8]byte
	}
	c, err := codec.Struct[Progress]()
	if err != nil {
		fmt.Println(err)
		return
	}
	p := Progress{Job: 7, Done: 0.5}
	copy(p.Stage[:], "sort")
	b, _ := c.Append(nil, &p)

	got, err := c.View(b)
	fmt.Println(len(b), got.Job, got.Done, string(got.Stage[:4]), err)
	_, err = c.View(b[:3])
	fmt.Println(err)
	// Output:
	// 24 7 0.5 sort <nil>
	// codec: 3 bytes, and a codec_test.Progress has 24
}

// What has no fixed layout is refused, with advice.
func ExampleStruct_refused() {
	type Job struct {
		_    structs.HostLayout
		ID   int
		Name string
	}
	_, err := codec.Struct[Job]()
	fmt.Println(err)
	// Output:
	// codec: no fixed layout: codec_test.Job.ID (int): its size is not the same everywhere: say int64
	// codec_test.Job.Name (string): it refers to memory of this process: say an array, as [32]byte, and copy into it
}

// A type that encodes itself.
func ExampleBinary() {
	c := codec.Binary[netip.AddrPort]()
	from := netip.MustParseAddrPort("192.0.2.1:80")
	b, _ := c.Append(nil, &from)

	var got netip.AddrPort
	err := c.Decode(b, &got)
	fmt.Println(len(b), got, err)
	// Output:
	// 6 192.0.2.1:80 <nil>
}

func ExampleJSON() {
	type Job struct {
		Name string            `json:"name"`
		Tags map[string]string `json:"tags"`
	}
	c := codec.JSON[Job]()
	b, _ := c.Append(nil, &Job{Name: "sort", Tags: map[string]string{"by": "size"}})
	fmt.Println(string(b))

	var got Job
	err := c.Decode(b, &got)
	fmt.Println(got.Tags["by"], err)
	// Output:
	// {"name":"sort","tags":{"by":"size"}}
	// size <nil>
}
