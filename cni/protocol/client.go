package protocol

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Client asks the agent that listens on Socket. Each call is one connection.
type Client struct {
	// Socket is the path of the agent's unix socket.
	Socket string
}

// UnreachableError says that no answer came: no agent listens, or it went away, or time ran out. Whether the agent acted on
// the request is unknown.
type UnreachableError struct {
	Socket string
	Err    error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("asking the node agent on %s: %v", e.Socket, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Add asks for an attachment to be prepared.
func (c Client) Add(ctx context.Context, r AddRequest) (AddResult, error) {
	return c.result(ctx, &Request{Version: Version, Add: &r})
}

// Check asks what an attachment should look like.
func (c Client) Check(ctx context.Context, r CheckRequest) (AddResult, error) {
	return c.result(ctx, &Request{Version: Version, Check: &r})
}

// Del says that an attachment is no more.
func (c Client) Del(ctx context.Context, r DelRequest) error {
	_, err := c.do(ctx, &Request{Version: Version, Del: &r})
	return err
}

// Status asks whether an ADD would be served now.
func (c Client) Status(ctx context.Context) error {
	_, err := c.do(ctx, &Request{Version: Version, Status: &StatusRequest{}})
	return err
}

// GC lists the attachments that are still in use.
func (c Client) GC(ctx context.Context, r GCRequest) error {
	_, err := c.do(ctx, &Request{Version: Version, GC: &r})
	return err
}

// Node asks what IPAM plugins need to know of the node.
func (c Client) Node(ctx context.Context) (NodeResult, error) {
	resp, err := c.do(ctx, &Request{Version: Version, Node: &NodeRequest{}})
	if err != nil {
		return NodeResult{}, err
	}
	if resp.Node == nil {
		return NodeResult{}, Errorf(CodeDecoding, "reading answer: node: missing")
	}
	return *resp.Node, nil
}

// Listening tells whether an agent takes connections. It may be too early for it to answer.
func (c Client) Listening(ctx context.Context) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func (c Client) result(ctx context.Context, req *Request) (AddResult, error) {
	resp, err := c.do(ctx, req)
	if err != nil {
		return AddResult{}, err
	}
	if resp.Result == nil {
		return AddResult{}, Errorf(CodeDecoding, "reading answer: result: missing")
	}
	return *resp.Result, nil
}

// do gives the agent's answer, or an [Error] that it answered or that the request deserves, or an [UnreachableError].
func (c Client) do(ctx context.Context, req *Request) (*Response, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return nil, &UnreachableError{c.Socket, err}
	}
	defer conn.Close() // nothing hangs on it once the answer is read
	// Unblocks reading and writing when ctx ends, by deadline or otherwise.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	if err := WriteRequest(conn, req); err != nil {
		return nil, c.failure(ctx, err)
	}
	resp, err := ReadResponse(conn)
	if err != nil {
		return nil, c.failure(ctx, err)
	}
	if resp.Error != nil {
		return nil, resp.Error
	}
	return resp, nil
}

func (c Client) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &UnreachableError{c.Socket, err}
}
