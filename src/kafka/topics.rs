//! Compares the topics of the configuration with those of the cluster, and creates missing ones.
//!
//! [`Topics::plan`] reads, and [`Topics::apply`] creates missing topics. Neither deletes or changes a topic: the plan shows how an
//! existing topic differs, and its owner decides. Every request has a time-out, and errors name missing rights.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{FutureProducer, Producer as _};
use serde::Serialize;

use super::context::Context;
use super::creation;
use super::oauth::hand_over;
use super::settings::{apply as apply_properties, connection_config, describe};
use super::status::Status;
use crate::action::QUARANTINE;
use crate::config::{Config, Kafka, Topic, TopicSettings};
use crate::token::TokenServer;

pub use super::creation::Wanted;

/// Prefix of the cluster id of librdkafka's mock cluster, the broker of `dev`.
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
    /// Differences of existing topics, which are not changed.
    pub differences: Vec<Difference>,
    /// Number of topics that match the configuration.
    pub unchanged: usize,
    /// Risks for confirmed events: too few replicas, or settings that could not be read.
    pub warnings: Vec<String>,
}

/// The request to the cluster has failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TopicsError(String);

/// Returns every topic of the configuration: those of the layout, and the quarantine topic.
pub fn wanted(config: &Config) -> Vec<Wanted> {
    let topics = &config.topics;
    let least_bytes = (config.ingress.max_body_bytes + Kafka::MESSAGE_OVERHEAD_BYTES).to_string();
    let event_topic = |Topic { name, mut settings, .. }: Topic<'_>| {
        settings.config.entry(MAX_BYTES.to_owned()).or_insert_with(|| least_bytes.clone());
        Wanted { name, settings }
    };
    let mut all: Vec<Wanted> = topics.list(&config.sources).into_iter().map(event_topic).collect();
    let mut quarantine = topics.settings_of(QUARANTINE);
    // A compacted topic would refuse quarantined bodies, which have no key. The retention outlasts a holiday.
    quarantine.config.remove("cleanup.policy");
    quarantine.config.insert(MAX_BYTES.to_owned(), least_bytes);
    let retention = Duration::from_hours(30 * 24).as_millis().to_string();
    quarantine.config.insert("retention.ms".to_owned(), retention);
    quarantine.config.extend(topics.quarantine_config.clone());
    all.push(Wanted { name: topics.quarantine(), settings: quarantine });
    all
}

const MAX_BYTES: &str = "max.message.bytes";

/// Returns the names of the wanted topics.
pub(super) fn wanted_names(config: &Config) -> BTreeSet<String> {
    wanted(config).into_iter().map(|topic| topic.name).collect()
}

/// A connection for comparing and creating topics.
pub struct Topics {
    admin: AdminClient<Context>,
    /// Lists topics. Unlike the admin client, it reports librdkafka's errors, such as a wrong password.
    lister: FutureProducer<Context>,
    status: Arc<Status>,
    /// Present if clients sign in with tokens.
    token_server: Option<TokenServer>,
    wanted: Vec<Wanted>,
    /// True if all wanted topics certainly exist, so that no request is necessary.
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
        let context = Context { status: Arc::clone(&status) };
        let refused = |error| TopicsError(format!("the Kafka client cannot be made: {}", describe(&error)));
        let admin = client.create_with_context(context.clone()).map_err(refused)?;
        let lister = client.create_with_context(context).map_err(refused)?;
        let token_server = config.kafka.oauth.as_ref().map(TokenServer::new).transpose();
        let token_server = token_server.map_err(|error| TopicsError(error.to_string()))?;
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
            let metadata = client.fetch_metadata(None, REQUEST_TIMEOUT)?;
            let existing: HashMap<String, Existing> = metadata
                .topics()
                .iter()
                .map(|topic| (topic.name().to_owned(), Existing::of(topic)))
                .collect();
            let cluster = client.fetch_cluster_id(REQUEST_TIMEOUT).unwrap_or_default();
            // The broker of `dev` does not answer a request for settings, which would end in a time-out.
            let has_settings = !cluster.starts_with(EMBEDDED_CLUSTER);
            let broker = metadata.brokers().first().map(|broker| broker.id()).filter(|_| has_settings);
            Ok::<_, KafkaError>((existing, broker))
        };
        let (existing, broker) = tokio::task::spawn_blocking(list)
            .await
            .map_err(|error| self.error(format!("listing topics was interrupted: {error}")))?
            .map_err(|error| self.error(format!("the cluster's topics cannot be listed: {error}")))?;
        let mut plan = Plan::default();
        let (mut default_replicas, mut settings) = (None, HashMap::new());
        if let Some(broker) = broker {
            default_replicas = self.default_replicas(broker).await;
            let names = self.wanted.iter().map(|topic| topic.name.as_str());
            let names: Vec<&str> = names.filter(|name| existing.contains_key(*name)).collect();
            settings = self.settings(&names, &mut plan.warnings).await;
        }
        for wanted in &self.wanted {
            match existing.get(&wanted.name) {
                Some(topic) => compare(wanted, topic, settings.get(&wanted.name), &mut plan),
                None => plan.create.push(safer(wanted.clone(), default_replicas)),
            }
        }
        plan.warnings.extend(durability(&plan, &existing, &settings, default_replicas));
        Ok(plan)
    }

    /// Creates the missing topics of the plan, and waits until they can be written to. Returns the topics that Kafka refused, each with
    /// its error. A topic that another client created meanwhile is not an error.
    ///
    /// # Errors
    /// [`TopicsError`] when the cluster does not answer in time.
    pub async fn apply(&self, plan: &Plan) -> Result<BTreeMap<String, String>, TopicsError> {
        if plan.create.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (lister, topics) = (self.lister.clone(), plan.create.clone());
        let create = move || creation::create(lister.client(), &topics, REQUEST_TIMEOUT);
        let refused = tokio::task::spawn_blocking(create)
            .await
            .map_err(|error| self.error(format!("the creation of topics was interrupted: {error}")))?
            .map_err(|error| self.error(format!("topics cannot be created: {error}")))?;
        let created = plan.create.iter().map(|topic| topic.name.clone());
        self.settled(created.filter(|name| !refused.contains_key(name)).collect()).await;
        Ok(refused)
    }

    /// Waits until each partition of these topics has a leader, at most for the time-out of a request. The cluster acknowledges the
    /// creation of a topic before its partitions have leaders, and messages would have to wait for them.
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

    /// Gives both clients a token if they need one. One token is enough: a plan and its changes take less time than its lifetime.
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

    /// Returns the default replication factor of the cluster, if the user may read it.
    async fn default_replicas(&self, broker: i32) -> Option<i32> {
        let resources =
            self.admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options()).await.ok()?;
        let broker = resources.into_iter().next()?.ok()?;
        broker.get("default.replication.factor")?.value.as_ref()?.parse().ok()
    }

    /// Returns the settings of existing topics, by topic. Settings that cannot be read are absent, with a warning.
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
            // Not every cluster supports this request, and a topic can be used without it.
            Err(error) => warnings.push(format!("settings of topics cannot be read: {error}")),
        }
        readable
    }

    fn error(&self, what: String) -> TopicsError {
        TopicsError(match self.status.explanation() {
            Some(explanation) => format!("{what}; {explanation}"),
            None => what,
        })
    }
}

fn has_leaders(topic: &MetadataTopic) -> bool {
    !topic.partitions().is_empty() && topic.partitions().iter().all(|partition| partition.leader() >= 0)
}

/// A topic of the cluster.
struct Existing {
    partitions: usize,
    /// The smallest number of replicas of a partition.
    replicas: i32,
}

impl Existing {
    fn of(topic: &MetadataTopic) -> Self {
        let replicas = topic.partitions().iter().map(|partition| partition.replicas().len());
        Self {
            partitions: topic.partitions().len(),
            replicas: replicas.min().and_then(|least| least.try_into().ok()).unwrap_or(0),
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

const MIN_ISR: &str = "min.insync.replicas";

/// Sets `min.insync.replicas` to 2 for at least three replicas, unless it is configured. Confirmed events then survive the loss of
/// a broker.
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
) -> Option<String> {
    let of_existing = settings.iter().map(|(name, resource)| {
        let isr = resource.get(MIN_ISR).and_then(|entry| entry.value.as_ref()?.parse().ok());
        (name, existing.get(name).map(|topic| topic.replicas), isr)
    });
    let of_missing = plan.create.iter().map(|wanted| {
        let isr = wanted.settings.config.get(MIN_ISR).map_or(Some(1), |isr| isr.parse().ok());
        (&wanted.name, replicas(wanted, default_replicas), isr)
    });
    let (mut few_replicas, mut low_isr, mut first) = (0, 0, None);
    for (topic, replicas, isr) in of_existing.chain(of_missing) {
        let has_few = replicas.is_some_and(|replicas| replicas < 3);
        let is_low = isr.is_some_and(|isr: i32| isr < 2);
        few_replicas += usize::from(has_few);
        low_isr += usize::from(is_low);
        first = first.or((has_few || is_low).then_some(topic));
    }
    let first = first?;
    Some(format!(
        "{few_replicas} topics have fewer than 3 replicas and {low_isr} have {MIN_ISR} below 2 (such as {first}): losing one broker can lose confirmed events"
    ))
}
