package protocol

import (
	"errors"
	"fmt"
)

// Codes of errors. Those below 100 are the CNI specification's ("Error", "Well-known error codes"), the others our own.
const (
	// CodeInvalidRequest: a value of the request is unusable (CNI: invalid environment variables).
	CodeInvalidRequest uint = 4
	// CodeIO: no answer could be had (CNI: I/O failure).
	CodeIO uint = 5
	// CodeDecoding: a message could not be read (CNI: failed to decode content).
	CodeDecoding uint = 6
	// CodeTryAgainLater: a passing condition; the runtime should try again (CNI: try again later).
	CodeTryAgainLater uint = 11
	// CodeNotAvailable: ADD cannot be served (CNI, STATUS only).
	CodeNotAvailable uint = 50
	// CodeLimitedConnectivity: ADD cannot be served, and existing pods may be cut off (CNI, STATUS only).
	CodeLimitedConnectivity uint = 51

	// CodeInternal: the agent failed in a way that has no code of its own.
	CodeInternal uint = 100
	// CodeNoAddress: no address is free for the pod.
	CodeNoAddress uint = 101
	// CodeUnknownAttachment: CHECK of an attachment that the agent does not know.
	CodeUnknownAttachment uint = 102
	// CodeMismatch: CHECK found the attachment other than it should be.
	CodeMismatch uint = 103
	// CodeSetup: the interface, its addresses or its routes could not be made.
	CodeSetup uint = 104
)

// Error is a failure that the runtime is to see with this code. Handlers return one to choose the code.
type Error struct {
	// Code of the failure.
	Code uint `json:"code"`
	// Message in one line: what was being done and what went wrong.
	Message string `json:"message"`
	// Details are longer, or advice.
	Details string `json:"details,omitempty"`
}

// Error implements error.
func (e *Error) Error() string {
	if e.Details == "" {
		return e.Message
	}
	return e.Message + "; " + e.Details
}

// Errorf makes an Error.
func Errorf(code uint, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// AsError gives the Error in err's chain with err's whole text, or one with CodeInternal. nil stays nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Code: CodeInternal, Message: err.Error()}
	}
	if err.Error() == e.Error() {
		return e
	}
	return &Error{Code: e.Code, Message: err.Error()}
}
