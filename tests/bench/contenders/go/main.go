// The original design's two handlers as one would write them with net/http, encoding/json and go-redis.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

const ttl = 30 * time.Minute

type analysis struct {
	Summary           string          `json:"summary"`
	StructuredData    json.RawMessage `json:"structuredData"`
	SuccessEvaluation json.RawMessage `json:"successEvaluation"`
}

type artifact struct {
	Transcript   string          `json:"transcript"`
	Messages     json.RawMessage `json:"messages"`
	RecordingURL string          `json:"recordingUrl"`
}

type customer struct {
	Number string `json:"number"`
}

type results struct {
	Status       string          `json:"status"`
	EndedReason  string          `json:"endedReason"`
	StartedAt    string          `json:"startedAt"`
	EndedAt      string          `json:"endedAt"`
	Transcript   string          `json:"transcript"`
	Messages     json.RawMessage `json:"messages"`
	RecordingURL string          `json:"recordingUrl"`
	Analysis     analysis        `json:"analysis"`
	Artifact     artifact        `json:"artifact"`
	Customer     customer        `json:"customer"`
}

type call struct {
	results
	ID            string `json:"id"`
	AssistantID   string `json:"assistantId"`
	PhoneNumberID string `json:"phoneNumberId"`
	Metadata      struct {
		ProviderName     string `json:"providerName"`
		ProviderPhone    string `json:"providerPhone"`
		ServiceNeeded    string `json:"serviceNeeded"`
		Location         string `json:"location"`
		UserCriteria     string `json:"userCriteria"`
		Urgency          string `json:"urgency"`
		ServiceRequestID string `json:"serviceRequestId"`
	} `json:"metadata"`
}

type webhook struct {
	Message struct {
		results
		Type string `json:"type"`
		Call call   `json:"call"`
	} `json:"message"`
}

type transcript struct {
	Text string `json:"text"`
}

type callResult struct {
	ID                string          `json:"id"`
	CallID            string          `json:"call_id"`
	AssistantID       string          `json:"assistant_id"`
	PhoneNumberID     string          `json:"phone_number_id"`
	CustomerPhone     string          `json:"customer_phone"`
	Status            string          `json:"status"`
	EndedReason       string          `json:"ended_reason"`
	StartedAt         string          `json:"started_at"`
	EndedAt           string          `json:"ended_at"`
	Transcript        *transcript     `json:"transcript"`
	Messages          json.RawMessage `json:"messages"`
	RecordingURL      string          `json:"recording_url"`
	Summary           string          `json:"analysis_summary"`
	StructuredData    json.RawMessage `json:"analysis_structured_data"`
	SuccessEvaluation json.RawMessage `json:"analysis_success_evaluation"`
	ProviderName      string          `json:"provider_name"`
	ProviderPhone     string          `json:"provider_phone"`
	ServiceType       string          `json:"service_type"`
	Location          string          `json:"location"`
	UserCriteria      string          `json:"user_criteria"`
	Urgency           string          `json:"urgency"`
	ServiceRequestID  string          `json:"service_request_id"`
	CreatedAt         time.Time       `json:"created_at"`
	UpdatedAt         time.Time       `json:"updated_at"`
}

type server struct {
	redis  *redis.Client
	prefix string
	secret []byte
}

func recordOf(hook *webhook) *callResult {
	message, now := &hook.Message, time.Now().UTC()
	call, metadata := &message.Call, &message.Call.Metadata
	record := &callResult{
		ID:                rand.Text(),
		CallID:            call.ID,
		AssistantID:       call.AssistantID,
		PhoneNumberID:     call.PhoneNumberID,
		CustomerPhone:     cmp.Or(call.Customer.Number, message.Customer.Number),
		Status:            cmp.Or(message.Status, call.Status),
		EndedReason:       cmp.Or(message.EndedReason, call.EndedReason),
		StartedAt:         cmp.Or(message.StartedAt, call.StartedAt),
		EndedAt:           cmp.Or(message.EndedAt, call.EndedAt),
		Messages:          first(message.Artifact.Messages, message.Messages, call.Messages),
		RecordingURL:      cmp.Or(message.Artifact.RecordingURL, message.RecordingURL, call.RecordingURL),
		Summary:           cmp.Or(message.Analysis.Summary, call.Analysis.Summary),
		StructuredData:    first(message.Analysis.StructuredData, call.Analysis.StructuredData),
		SuccessEvaluation: first(message.Analysis.SuccessEvaluation, call.Analysis.SuccessEvaluation),
		ProviderName:      metadata.ProviderName,
		ProviderPhone:     metadata.ProviderPhone,
		ServiceType:       metadata.ServiceNeeded,
		Location:          metadata.Location,
		UserCriteria:      metadata.UserCriteria,
		Urgency:           metadata.Urgency,
		ServiceRequestID:  metadata.ServiceRequestID,
		CreatedAt:         now,
		UpdatedAt:         now,
	}
	if message.Type == "end-of-call-report" {
		record.Status = "ended"
	}
	if text := cmp.Or(message.Artifact.Transcript, message.Transcript, call.Transcript); text != "" {
		record.Transcript = &transcript{text}
	}
	return record
}

func first(values ...json.RawMessage) json.RawMessage {
	for _, value := range values {
		if len(value) > 0 {
			return value
		}
	}
	return nil
}

func (s *server) receive(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Vapi-Secret")), s.secret) != 1 {
		fail(w, http.StatusUnauthorized, "Invalid webhook signature")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, http.StatusBadRequest, "Invalid webhook payload")
		return
	}
	var hook webhook
	if err := json.Unmarshal(body, &hook); err != nil || hook.Message.Type == "" || hook.Message.Call.ID == "" {
		fail(w, http.StatusBadRequest, "Invalid webhook payload")
		return
	}
	record, err := json.Marshal(recordOf(&hook))
	if err != nil {
		fail(w, http.StatusInternalServerError, "Internal server error")
		return
	}
	id := hook.Message.Call.ID
	if err := s.redis.Set(r.Context(), s.prefix+id, record, ttl).Err(); err != nil {
		fail(w, http.StatusServiceUnavailable, "Redis is not available")
		return
	}
	answer(w, http.StatusOK, map[string]any{"success": true, "message": "Webhook processed: " + hook.Message.Type, "callId": id})
}

func (s *server) getCall(w http.ResponseWriter, r *http.Request) {
	stored, err := s.redis.Get(r.Context(), s.prefix+r.PathValue("id")).Bytes()
	if errors.Is(err, redis.Nil) {
		fail(w, http.StatusNotFound, "Call result not found")
		return
	}
	if err != nil {
		fail(w, http.StatusServiceUnavailable, "Redis is not available")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"success":true,"data":%s}`, stored)
}

func fail(w http.ResponseWriter, status int, sentence string) {
	answer(w, status, map[string]any{"success": false, "error": sentence})
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func main() {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	options.PoolSize = 64 // one for each connection of the load generator; the default is ten per core
	s := &server{redis.NewClient(options), os.Getenv("KEY_PREFIX"), []byte(os.Getenv("VAPI_WEBHOOK_SECRET"))}
	if err := s.redis.Ping(context.Background()).Err(); err != nil {
		log.Fatal(err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /api/v1/vapi/webhook", s.receive)
	routes.HandleFunc("GET /api/v1/vapi/calls/{id}", s.getCall)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), routes))
}
