package codec

import (
	"encoding/json"
	"sync"
)

// JSON is the Codec by encoding/json, with its rules: json.Marshal's bytes, and json.Unmarshal's leniency
// towards unknown and missing fields.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

// jsonEncoder is an encoder that appends to b: json.Marshal would allocate its result each time.
type jsonEncoder struct {
	b   []byte
	enc *json.Encoder
}

func (e *jsonEncoder) Write(b []byte) (int, error) {
	e.b = append(e.b, b...)
	return len(b), nil
}

var jsonEncoders = sync.Pool{New: func() any {
	e := new(jsonEncoder)
	e.enc = json.NewEncoder(e)
	return e
}}

func (jsonCodec[T]) Append(b []byte, v *T) ([]byte, error) {
	e := jsonEncoders.Get().(*jsonEncoder)
	e.b = b
	err := e.enc.Encode(v) // writes once, and nothing if there is an error
	b, e.b = e.b, nil
	jsonEncoders.Put(e) // not deferred: one whose value's MarshalJSON panicked is not used again
	if err != nil {
		return nil, err
	}
	return b[:len(b)-1], nil // without the encoder's line feed
}

func (jsonCodec[T]) Decode(b []byte, v *T) error { return json.Unmarshal(b, v) }
