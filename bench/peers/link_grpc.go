package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/shmrouter/shmrouter/bench"
)

func init() {
	addPeer(&peer{name: "grpc", title: "gRPC stream, unix socket", module: "google.golang.org/grpc", open: openGRPC,
		how: "one bidirectional stream that stays open; a codec that hands the bytes through, without protobuf, with gRPC's buffer pools; windows of 16 MiB " +
			"and buffers of 128 KiB. Its transport coalesces writes by itself."})
	encoding.RegisterCodecV2(rawCodec{})
}

const (
	grpcWindow = 16 << 20
	grpcBuffer = 128 << 10
	rawName    = "raw"
)

// raw is a message: what SendMsg sends, or where RecvMsg puts what came.
type raw struct{ b []byte }

type rawCodec struct{}

func (rawCodec) Name() string { return rawName }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.Copy(v.(*raw).b, mem.DefaultBufferPool())}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	r := v.(*raw)
	if n := data.Len(); n > cap(r.b) {
		r.b = make([]byte, n)
	} else {
		r.b = r.b[:n]
	}
	data.CopyTo(r.b)
	return nil
}

// grpcStream is what both ends of a stream have.
type grpcStream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

type grpcLink struct {
	ready  chan struct{}
	stream grpcStream
	out    raw
	in     raw
}

var grpcStreamDesc = grpc.StreamDesc{StreamName: "Messages", ServerStreams: true, ClientStreams: true}

func openGRPC(p *bench.Post, e end) (link, error) {
	path := filepath.Join(p.Dir, numbered("grpc", e.sender))
	l := &grpcLink{ready: make(chan struct{})}
	if p.Receiver {
		return l, l.serve(path)
	}
	defer close(l.ready)
	conn, err := grpc.NewClient("unix:"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(grpcWindow), grpc.WithInitialConnWindowSize(grpcWindow),
		grpc.WithReadBufferSize(grpcBuffer), grpc.WithWriteBufferSize(grpcBuffer),
		grpc.WithDefaultCallOptions(grpc.CallContentSubtype(rawName)))
	if err != nil {
		return nil, err
	}
	l.stream, err = conn.NewStream(context.Background(), &grpcStreamDesc, "/peers/Messages", grpc.WaitForReady(true))
	return l, err
}

func (l *grpcLink) serve(path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	desc := grpcStreamDesc
	desc.Handler = func(_ any, s grpc.ServerStream) error {
		l.stream = s
		close(l.ready)
		<-s.Context().Done() // for as long as the sender lives
		return nil
	}
	server := grpc.NewServer(
		grpc.InitialWindowSize(grpcWindow), grpc.InitialConnWindowSize(grpcWindow),
		grpc.ReadBufferSize(grpcBuffer), grpc.WriteBufferSize(grpcBuffer))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "peers", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{desc}}, nil)
	go func() {
		if err := server.Serve(ln); err != nil {
			panic(fmt.Sprintf("grpc: %v", err))
		}
	}()
	return nil
}

func (l *grpcLink) send(b []byte) error {
	<-l.ready
	l.out.b = b
	return l.stream.SendMsg(&l.out)
}

func (l *grpcLink) sendBatch(msgs [][]byte) error { return eachOf(l, msgs) }

func (l *grpcLink) receive(n uint64, s *sequence) error {
	<-l.ready
	for range n {
		if err := l.stream.RecvMsg(&l.in); err != nil {
			return err
		}
		if err := s.check(l.in.b); err != nil {
			return err
		}
	}
	return nil
}
