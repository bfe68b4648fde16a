//! The topics that the configuration asks for, compared with those that the cluster has.
//!
//! [`Topics::plan`] reads, [`Topics::apply`] creates what is missing; nothing is ever deleted, shrunk or altered: where an existing
//! topic differs, that is shown and left to its owner. Every request has a time-out, and missing rights are said in
//! words.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::KafkaError;
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{FutureProducer, Producer as _};
use serde::Serialize;

use super::context::Context;
use super::creation;
use super::oauth::hand_over;
use super::settings::{apply as apply_properties, connection_config, describe};
use super::status::Status;
use super::topic::{Failed, Wanted};
use crate::action::QUARANTINE;
use crate::config::{Config, Kafka, Topic, TopicSettings};
use crate::token::TokenServer;

/// The beginning of the id of librdkafka's mock cluster, the broker of `dev`.
const EMBEDDED_CLUSTER: &str = "mockCluster";

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A difference between an existing topic and the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The topic.
    pub topic: String,
    /// `partitions`, `replication factor` or a setting's name.
    pub field: String,
    /// The value of the topic.
    pub have: String,
    /// The value of the configuration.
    pub want: String,
}

/// The comparison of configuration and cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Missing topics.
    pub create: Vec<Wanted>,
    /// Differences of existing ones, which are left alone.
    pub differences: Vec<Difference>,
    /// How many exist as the configuration asks.
    pub unchanged: usize,
    /// Dangers for confirmed events: too few replicas, or settings that could not be read.
    pub warnings: Vec<String>,
}

/// The request to the cluster has failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}", .explanation.as_ref().map(|explanation| format!("; {explanation}")).unwrap_or_default())]
pub struct TopicsError {
    what: String,
    explanation: Option<String>,
}

/// Every topic that the configuration asks for: those of the layout, and the quarantine topic.
pub fn wanted(config: &Config) -> Vec<Wanted> {
    let topics = &config.topics;
    let least_bytes = (config.ingress.max_body_bytes + Kafka::MESSAGE_OVERHEAD_BYTES).to_string();
    let event_topic = |Topic { name, mut settings, .. }: Topic<'_>| {
        settings.config.entry(MAX_BYTES.to_owned()).or_insert_with(|| least_bytes.clone());
        Wanted { name, settings }
    };
    let mut all: Vec<Wanted> = topics.list(&config.sources).into_iter().map(event_topic).collect();
    let mut quarantine = topics.settings_of(QUARANTINE);
    // A compacted quarantine would refuse bodies, which have no key; and it must outlast a holiday.
    quarantine.config.remove("cleanup.policy");
    quarantine.config.insert(MAX_BYTES.to_owned(), least_bytes);
    let retention = Duration::from_hours(30 * 24).as_millis().to_string();
    quarantine.config.insert("retention.ms".to_owned(), retention);
    quarantine.config.extend(topics.quarantine_config.clone());
    all.push(Wanted { name: topics.quarantine(), settings: quarantine });
    all
}

const MAX_BYTES: &str = "max.message.bytes";

/// A connection for comparing and creating topics.
pub struct Topics {
    admin: AdminClient<Context>,
    /// Lists topics; unlike the admin client it hands on the client's errors, so that a wrong password is called one.
    lister: FutureProducer<Context>,
    status: Arc<Status>,
    /// Present if clients sign in with tokens.
    token_server: Option<TokenServer>,
    wanted: Vec<Wanted>,
    /// True if the wanted topics are known to exist, so that no request is necessary.
    are_known: bool,
}

impl Topics {
    /// Makes a client, which connects at the first request.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &Config) -> Result<Self, TopicsError> {
        let mut client = connection_config(&config.kafka);
        apply_properties(&mut client, &config.kafka.properties);
        let status = Arc::new(Status::default());
        let context = Context { status: Arc::clone(&status), statistics: None };
        let refused = |error| TopicsError {
            what: format!("the Kafka client cannot be made: {}", describe(&error)),
            explanation: None,
        };
        let admin = client.create_with_context(context.clone()).map_err(refused)?;
        let lister = client.create_with_context(context).map_err(refused)?;
        let token_server = config.kafka.oauth.as_ref().map(TokenServer::new).transpose();
        let token_server =
            token_server.map_err(|error| TopicsError { what: error.to_string(), explanation: None })?;
        Ok(Self {
            admin,
            lister,
            status,
            token_server,
            wanted: wanted(config),
            are_known: config.topics.are_known,
        })
    }

    /// Compares the configuration with the cluster.
    ///
    /// # Errors
    /// [`TopicsError`] when the cluster does not answer in time, or there is no token to sign in with.
    pub async fn plan(&self) -> Result<Plan, TopicsError> {
        if self.are_known {
            return Ok(Plan { unchanged: self.wanted.len(), ..Plan::default() });
        }
        self.sign_in().await?;
        let lister = self.lister.clone();
        let list = move || {
            let client = lister.client();
            let listing = Listing::of(&client.fetch_metadata(None, REQUEST_TIMEOUT)?);
            let cluster = client.fetch_cluster_id(REQUEST_TIMEOUT).unwrap_or_default();
            Ok::<_, KafkaError>((listing, cluster.starts_with(EMBEDDED_CLUSTER)))
        };
        let (listing, is_embedded) = tokio::task::spawn_blocking(list)
            .await
            .map_err(|error| self.error(format!("listing topics was interrupted: {error}")))?
            .map_err(|error| self.error(format!("the cluster's topics cannot be listed: {error}")))?;
        // The broker of `dev` answers no request for settings; asking it would take until the time-out.
        let default_replicas = if is_embedded { None } else { self.default_replicas(&listing).await };
        let existing = &listing.topics;
        let names: Vec<&str> = self
            .wanted
            .iter()
            .map(|topic| topic.name.as_str())
            .filter(|name| existing.contains_key(*name))
            .collect();
        let mut plan = Plan::default();
        let names = if is_embedded { Vec::new() } else { names };
        let settings = self.settings(&names, &mut plan.warnings).await;
        for wanted in &self.wanted {
            match existing.get(&wanted.name) {
                Some(topic) => compare(wanted, topic, settings.get(&wanted.name), &mut plan),
                None => plan.create.push(safer(wanted.clone(), default_replicas)),
            }
        }
        plan.warnings.extend(durability(&plan, existing, &settings, default_replicas));
        Ok(plan)
    }

    /// Creates the topics that the plan misses, and waits until they can be written to. Returns the topics that Kafka
    /// refused; a topic that somebody else created meanwhile is not among them.
    ///
    /// # Errors
    /// [`TopicsError`] when the cluster does not answer in time.
    pub async fn apply(&self, plan: &Plan) -> Result<Vec<Failed>, TopicsError> {
        if plan.create.is_empty() {
            return Ok(Vec::new());
        }
        let (lister, topics) = (self.lister.clone(), plan.create.clone());
        let create = move || creation::create(lister.client(), &topics, REQUEST_TIMEOUT);
        let failed = tokio::task::spawn_blocking(create)
            .await
            .map_err(|error| self.error(format!("the creation of topics was interrupted: {error}")))?
            .map_err(|error| self.error(format!("topics cannot be created: {error}")))?;
        let created = plan.create.iter().map(|topic| topic.name.clone());
        let created = created.filter(|name| failed.iter().all(|failed| failed.topic != *name)).collect();
        self.settled(created).await;
        Ok(failed)
    }

    /// Waits until the cluster tells a leader for each partition of these topics, or for as long as one request may take: it
    /// acknowledges topics some time before its brokers know them, and what is sent to them then has to wait.
    async fn settled(&self, mut names: BTreeSet<String>) {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let mut pause = Duration::from_millis(50);
        while !names.is_empty() && Instant::now() < deadline {
            let lister = self.lister.clone();
            let list = move || lister.client().fetch_metadata(None, REQUEST_TIMEOUT);
            if let Ok(Ok(metadata)) = tokio::task::spawn_blocking(list).await {
                for topic in metadata.topics().iter().filter(|topic| has_leaders(topic)) {
                    names.remove(topic.name());
                }
            }
            if !names.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(Duration::from_secs(1));
            }
        }
    }

    /// Gives both clients a token if they need one. A plan and its changes take less time than the lifetime of a token.
    async fn sign_in(&self) -> Result<(), TopicsError> {
        let Some(server) = &self.token_server else { return Ok(()) };
        let token = server.fetch().await.map_err(|error| {
            tracing::debug!(detail = error.detail(), "no token for Kafka: {error}");
            self.error(format!("no token to sign in with: {error}"))
        })?;
        hand_over(self.admin.inner(), &token);
        hand_over(self.lister.client(), &token);
        Ok(())
    }

    /// Default replication factor of the cluster, if the user may read it.
    async fn default_replicas(&self, listing: &Listing) -> Option<i32> {
        let broker = listing.broker?;
        let resources =
            self.admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options()).await.ok()?;
        let broker = resources.into_iter().next()?.ok()?;
        broker.get("default.replication.factor")?.value.as_ref()?.parse().ok()
    }

    /// The settings of existing topics, by topic. Settings that cannot be read are absent, with a warning.
    async fn settings(&self, topics: &[&str], warnings: &mut Vec<String>) -> HashMap<String, ConfigResource> {
        let mut readable = HashMap::new();
        if topics.is_empty() {
            return readable;
        }
        let specifiers: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        match self.admin.describe_configs(&specifiers, &options()).await {
            Ok(results) => {
                for (topic, result) in topics.iter().zip(results) {
                    match result {
                        Ok(resource) => drop(readable.insert((*topic).to_owned(), resource)),
                        Err(code) => warnings.push(format!("{topic}: its settings cannot be read: {code}")),
                    }
                }
            }
            // Not every cluster has this request, and a topic can be used without it.
            Err(error) => warnings.push(format!("settings of topics cannot be read: {error}")),
        }
        readable
    }

    fn error(&self, what: String) -> TopicsError {
        TopicsError { what, explanation: self.status.explanation() }
    }
}

fn has_leaders(topic: &MetadataTopic) -> bool {
    !topic.partitions().is_empty() && topic.partitions().iter().all(|partition| partition.leader() >= 0)
}

/// The state of a cluster that this module reads.
struct Listing {
    broker: Option<i32>,
    topics: HashMap<String, Existing>,
}

struct Existing {
    partitions: usize,
    replicas: usize,
}

impl Listing {
    fn of(metadata: &Metadata) -> Self {
        let existing = |topic: &MetadataTopic| Existing {
            partitions: topic.partitions().len(),
            replicas: topic
                .partitions()
                .iter()
                .map(|partition| partition.replicas().len())
                .min()
                .unwrap_or(0),
        };
        Self {
            broker: metadata.brokers().first().map(|broker| broker.id()),
            topics: metadata
                .topics()
                .iter()
                .map(|topic| (topic.name().to_owned(), existing(topic)))
                .collect(),
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

const MIN_ISR: &str = "min.insync.replicas";

/// With three replicas a confirmation should mean two copies, so that it survives the loss of a broker.
fn safer(mut wanted: Wanted, default_replicas: Option<i32>) -> Wanted {
    if replicas(&wanted, default_replicas).is_some_and(|replicas| replicas >= 3) {
        wanted.settings.config.entry(MIN_ISR.to_owned()).or_insert_with(|| "2".to_owned());
    }
    wanted
}

fn replicas(wanted: &Wanted, default_replicas: Option<i32>) -> Option<i32> {
    let replicas = wanted.settings.replication_factor;
    if replicas > 0 { Some(replicas) } else { default_replicas }
}

fn compare(wanted: &Wanted, topic: &Existing, settings: Option<&ConfigResource>, plan: &mut Plan) {
    let before = plan.differences.len();
    let mut differ = |field: &str, have: String, want: String| {
        if have != want {
            plan.differences.push(Difference {
                topic: wanted.name.clone(),
                field: field.to_owned(),
                have,
                want,
            });
        }
    };
    let TopicSettings { partitions, replication_factor, config } = &wanted.settings;
    if *partitions > 0 {
        differ("partitions", topic.partitions.to_string(), partitions.to_string());
    }
    if *replication_factor > 0 {
        differ("replication factor", topic.replicas.to_string(), replication_factor.to_string());
    }
    if let Some(settings) = settings {
        for (key, want) in config {
            let have = settings.get(key).and_then(|entry| entry.value.clone());
            differ(key, have.unwrap_or_else(|| "not a setting of this cluster".to_owned()), want.clone());
        }
    }
    if plan.differences.len() == before {
        plan.unchanged += 1;
    }
}

/// Warns of topics whose confirmed events would not survive the loss of a broker.
fn durability(
    plan: &Plan,
    existing: &HashMap<String, Existing>,
    settings: &HashMap<String, ConfigResource>,
    default_replicas: Option<i32>,
) -> Vec<String> {
    let mut few_replicas = 0;
    let mut low_isr = 0;
    let mut first = None;
    let mut note = |topic: &str, replicas: Option<i32>, isr: Option<i32>| {
        let few = replicas.is_some_and(|replicas| replicas < 3);
        let low = isr.is_some_and(|isr| isr < 2);
        few_replicas += usize::from(few);
        low_isr += usize::from(low);
        if few || low {
            first.get_or_insert_with(|| topic.to_owned());
        }
    };
    for (name, resource) in settings {
        let isr = resource.get(MIN_ISR).and_then(|entry| entry.value.as_ref()?.parse().ok());
        let replicas = existing.get(name).and_then(|topic| i32::try_from(topic.replicas).ok());
        note(name, replicas, isr);
    }
    for wanted in &plan.create {
        let isr = wanted.settings.config.get(MIN_ISR).map_or(Some(1), |isr| isr.parse().ok());
        note(&wanted.name, replicas(wanted, default_replicas), isr);
    }
    let Some(first) = first else { return Vec::new() };
    vec![format!(
        "{few_replicas} topics have fewer than 3 replicas and {low_isr} have {MIN_ISR} below 2 (such as {first}): losing one broker can lose confirmed events"
    )]
}
