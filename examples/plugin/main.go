// Plugin is a plugin by hashicorp/go-plugin whose bulk data come through shared memory. go-plugin does what it is
// good at: it starts the process, checks versions, carries calls (net/rpc here) and logs, and ends the process. The ring carries
// the data: HandOver adds it to the command that go-plugin starts, and the plugin finds it by sender.FromEnv. The
// program is both, host and plugin. It fetches the same bytes by calls and through the ring, and prints both rates. Run
// it by
//
//	cd examples/plugin && go run . -mb 256
package main

import (
	"context"
	"flag"
	"fmt"
	"hash/crc32"
	"log"
	"net/rpc"
	"os/exec"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

func main() {
	if sender.Launched() {
		servePlugin()
		return
	}
	mb := flag.Int("mb", 256, "MiB to fetch")
	way := flag.String("way", "both", "calls, ring, or both")
	flag.Parse()
	if err := host(*mb, *way); err != nil {
		log.Fatal(err)
	}
}

func host(mb int, way string) error {
	rt, err := router.New()
	if err != nil {
		return err
	}
	if err := rt.Start(); err != nil {
		return err
	}
	defer rt.Stop()
	s, rcv, err := rt.Pipe()
	if err != nil {
		return err
	}
	defer rcv.Close()

	cmd := exec.Command("/proc/self/exe")
	if err := rt.HandOver(cmd, s); err != nil {
		return err
	}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: handshake,
		Plugins:         plugin.PluginSet{"source": &sourcePlugin{}},
		Cmd:             cmd,
		Logger:          hclog.New(&hclog.LoggerOptions{Name: "plugin", Level: hclog.Warn}),
	})
	defer client.Kill()
	conn, err := client.Client()
	if err != nil {
		return err
	}
	for _, f := range cmd.ExtraFiles { // the plugin has its own now
		f.Close()
	}
	raw, err := conn.Dispense("source")
	if err != nil {
		return err
	}
	source := raw.(*rpc.Client)
	var pid int
	if err := source.Call("Plugin.PID", 0, &pid); err != nil {
		return err
	}
	fmt.Printf("plugin is process %d\n", pid)

	if way != "ring" {
		err := fetch("by calls", mb, func() ([]byte, error) {
			var chunk []byte
			err := source.Call("Plugin.Read", chunkSize, &chunk)
			return chunk, err
		})
		if err != nil {
			return err
		}
	}
	if way == "calls" {
		return nil
	}
	// This call starts the stream, and returns when everything is sent. What was received the pipe tells.
	streamed := source.Go("Plugin.Stream", mb, nil, nil)
	err = fetch("through the ring", mb, func() ([]byte, error) {
		m, err := rcv.Recv(context.Background())
		return m.Data, err
	})
	if err != nil {
		return err
	}
	return (<-streamed.Done).Error
}

// fetch reads mb MiB chunk by chunk. The time for checksums is not counted.
func fetch(how string, mb int, next func() ([]byte, error)) error {
	fmt.Printf("%s: begins\n", how)
	var took time.Duration
	sum := crc32.New(castagnoli)
	for n := 0; n < mb<<20; {
		begin := time.Now()
		chunk, err := next()
		took += time.Since(begin)
		if err != nil {
			return fmt.Errorf("%s: after %d of %d MiB: %w", how, n>>20, mb, err)
		}
		n += len(chunk)
		sum.Write(chunk)
	}
	fmt.Printf("%s: %d MiB, %.0f MiB/s, crc %08x\n", how, mb, float64(mb)/took.Seconds(), sum.Sum32())
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
