// The original design as written: Fastify 5 and zod, results in a Map or, with STORE=redis, in Redis for 30 minutes.
// Its schema is relaxed only as far as VAPI's real bodies need it (marked "relaxed"), its signature check compares
// X-Vapi-Secret. KEEP_PAYLOAD=0 leaves raw_webhook_payload out of the record, which the design keeps.
import { randomUUID, timingSafeEqual } from "node:crypto";
import Fastify from "fastify";
import { Redis } from "ioredis";
import { z } from "zod";

const TTL_S = 30 * 60;
const keepsPayload = process.env.KEEP_PAYLOAD !== "0";
const secret = Buffer.from(process.env.VAPI_WEBHOOK_SECRET);

const text = z.string().nullish(); // relaxed: VAPI sends nulls
const AnalysisSchema = z.object({
  summary: text,
  structuredData: z.record(z.string(), z.any()).nullish(),
  successEvaluation: text,
});
const ArtifactSchema = z.object({ transcript: text, recordingUrl: text, messages: z.array(z.any()).nullish() });
const results = {
  endedReason: text,
  startedAt: text,
  endedAt: text,
  transcript: text,
  messages: z.array(z.any()).nullish(),
  recordingUrl: text,
  analysis: AnalysisSchema.nullish(),
  artifact: ArtifactSchema.nullish(),
};
const CustomerSchema = z.object({ number: text, name: text });

const VapiWebhookSchema = z.object({
  message: z.object({
    type: z.string(), // relaxed: types are many
    status: text,
    customer: CustomerSchema.nullish(),
    ...results, // relaxed: VAPI sends results here
    call: z.object({
      id: z.string(),
      assistantId: text,
      phoneNumberId: text,
      customer: CustomerSchema.nullish(),
      status: text, // relaxed
      metadata: z.record(z.string(), z.any()).nullish(),
      ...results,
    }),
    timestamp: z.union([z.number(), z.string()]).nullish(), // relaxed: a number
    phoneNumber: z.object({ number: text }).nullish(),
  }),
});

const GetCallResultSchema = z.object({ callId: z.string().min(1, "Call ID is required") });

function inMemory() {
  const entries = new Map();
  const sweep = () => {
    const now = Date.now();
    for (const [callId, entry] of entries) if (entry.expiresAt <= now) entries.delete(callId);
  };
  setInterval(sweep, 5 * 60 * 1000).unref();
  return {
    async set(callId, record) {
      entries.set(callId, { record, expiresAt: Date.now() + TTL_S * 1000 });
    },
    async get(callId) {
      const entry = entries.get(callId);
      return entry && entry.expiresAt > Date.now() ? entry.record : null;
    },
  };
}

function inRedis(url) {
  const redis = new Redis(url);
  const prefix = process.env.KEY_PREFIX;
  return {
    async set(callId, record) {
      await redis.set(prefix + callId, JSON.stringify(record), "EX", TTL_S);
    },
    async get(callId) {
      const stored = await redis.get(prefix + callId);
      return stored === null ? null : JSON.parse(stored);
    },
  };
}

function recordOf(message, payload) {
  const { call } = message;
  const metadata = call.metadata ?? {};
  const transcript = message.artifact?.transcript || message.transcript || call.transcript;
  const analysis = message.analysis ?? call.analysis;
  const now = new Date().toISOString();
  return {
    id: randomUUID(),
    call_id: call.id,
    assistant_id: call.assistantId,
    phone_number_id: call.phoneNumberId,
    customer_phone: call.customer?.number || message.customer?.number || "",
    status: message.status ?? (message.type === "end-of-call-report" ? "ended" : call.status),
    ended_reason: message.endedReason ?? call.endedReason,
    started_at: message.startedAt ?? call.startedAt,
    ended_at: message.endedAt ?? call.endedAt,
    transcript: transcript ? { text: transcript } : null,
    messages: message.artifact?.messages ?? message.messages ?? call.messages,
    recording_url: message.artifact?.recordingUrl || message.recordingUrl || call.recordingUrl,
    analysis_summary: analysis?.summary,
    analysis_structured_data: analysis?.structuredData,
    analysis_success_evaluation: analysis?.successEvaluation,
    provider_name: metadata.providerName,
    provider_phone: metadata.providerPhone,
    service_type: metadata.serviceNeeded,
    location: metadata.location,
    user_criteria: metadata.userCriteria,
    urgency: metadata.urgency,
    service_request_id: metadata.serviceRequestId,
    raw_webhook_payload: keepsPayload ? payload : undefined,
    created_at: now,
    updated_at: now,
  };
}

function isProven(sent) {
  const proof = Buffer.from(sent ?? "");
  return proof.length === secret.length && timingSafeEqual(proof, secret);
}

const failure = {
  type: "object",
  properties: { success: { type: "boolean" }, error: { type: "string" } },
};

const webhookSchema = {
  body: {
    type: "object",
    properties: {
      message: { type: "object", properties: { type: { type: "string" }, call: { type: "object" }, timestamp: {} } },
    },
  },
  response: {
    200: {
      type: "object",
      properties: { success: { type: "boolean" }, message: { type: "string" }, callId: { type: "string" } },
    },
    400: failure,
    401: failure,
  },
};

const pollSchema = {
  params: { type: "object", properties: { callId: { type: "string" } }, required: ["callId"] },
  response: {
    200: {
      type: "object",
      // relaxed: without additionalProperties Fastify would send an empty object
      properties: { success: { type: "boolean" }, data: { type: "object", additionalProperties: true } },
    },
    404: failure,
  },
};

const store = process.env.STORE === "redis" ? inRedis(process.env.REDIS_URL) : inMemory();

async function vapiRoutes(fastify) {
  fastify.post("/webhook", { schema: webhookSchema }, async (request, reply) => {
    if (!isProven(request.headers["x-vapi-secret"])) {
      return reply.status(401).send({ success: false, error: "Invalid webhook signature" });
    }
    const validation = VapiWebhookSchema.safeParse(request.body);
    if (!validation.success) {
      return reply.status(400).send({ success: false, error: "Invalid webhook payload" });
    }
    const { message } = validation.data;
    await store.set(message.call.id, recordOf(message, request.body));
    return reply.send({ success: true, message: `Webhook processed: ${message.type}`, callId: message.call.id });
  });

  fastify.get("/calls/:callId", { schema: pollSchema }, async (request, reply) => {
    const params = GetCallResultSchema.parse(request.params);
    const result = await store.get(params.callId);
    if (!result) return reply.status(404).send({ success: false, error: "Call result not found" });
    return reply.send({ success: true, data: result });
  });
}

const server = Fastify({ logger: false });
await server.register(vapiRoutes, { prefix: "/api/v1/vapi" });
await server.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
