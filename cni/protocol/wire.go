package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// WriteRequest writes r as one line. It refuses what ReadRequest would refuse.
func WriteRequest(w io.Writer, r *Request) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return write(w, r)
}

// ReadRequest reads one line and gives a valid request or an [Error].
func ReadRequest(r io.Reader) (*Request, error) {
	var req Request
	if err := read(r, &req); err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	if err := req.Validate(); err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	return &req, nil
}

// WriteResponse writes r as one line.
func WriteResponse(w io.Writer, r *Response) error {
	return write(w, r)
}

// ReadResponse reads one line and gives an answer of this version. A Result in it is valid.
func ReadResponse(r io.Reader) (*Response, error) {
	var resp Response
	if err := read(r, &resp); err != nil {
		return nil, fmt.Errorf("reading answer: %w", err)
	}
	// An error is understood whatever the version, so that the agent can say that the plugin is too old.
	if resp.Error == nil {
		if err := resp.validate(); err != nil {
			return nil, Errorf(CodeDecoding, "reading answer: %v", err)
		}
	}
	return &resp, nil
}

func (r *Response) validate() error {
	if r.Version != Version {
		return fmt.Errorf("version: got %d, want %d: the plugin and the node agent are of different releases", r.Version, Version)
	}
	if r.Result != nil {
		return r.Result.Validate()
	}
	return nil
}

func write(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	if len(line) >= MaxMessage {
		return Errorf(CodeDecoding, "encoding: message of %d bytes, want at most %d", len(line)+1, MaxMessage)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

func read(r io.Reader, into any) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, into); err != nil {
		return Errorf(CodeDecoding, "decoding: %v", err)
	}
	return nil
}

// readLine reads up to a newline and never more than MaxMessage. It may read past the newline: there is one message in
// each direction of a connection.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	chunk := make([]byte, 4096)
	for {
		n, err := r.Read(chunk)
		end := bytes.IndexByte(chunk[:n], '\n')
		if end >= 0 {
			n = end
		}
		if len(line)+n >= MaxMessage {
			return nil, Errorf(CodeDecoding, "message longer than %d bytes", MaxMessage)
		}
		line = append(line, chunk[:n]...)
		switch {
		case end >= 0:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
}
